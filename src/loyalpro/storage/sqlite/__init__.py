"""SQLite: one process, one writing connection, one file."""
