"""SQL, written once for both databases: a file for each noun."""
