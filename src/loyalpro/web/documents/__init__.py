"""What can be stated of the program as a whole, for calls of the API and for forms of the dashboard."""
