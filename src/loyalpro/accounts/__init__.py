"""Accounts, their API keys, and the stored results of requests with an idempotency key."""
