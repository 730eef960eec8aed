"""Periodic jobs: work that is due at intervals and not because of a request. Each package defines its own jobs."""
