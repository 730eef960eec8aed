"""The database: one set of tables, on SQLite or PostgreSQL."""
