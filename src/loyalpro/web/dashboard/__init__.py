"""The dashboard: pages for people, made of the use cases that the API calls."""
