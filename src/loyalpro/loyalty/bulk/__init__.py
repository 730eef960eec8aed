"""Work on many rows: imports and exports. Each is a job in pieces, and each piece is a database transaction with its cursor."""
