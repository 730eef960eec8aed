"""What the operator does on the server's machine without an API key: accounts and keys, also while the server runs."""
