"""The pages, a file for each group. A page calls use cases, and renders what they return."""
