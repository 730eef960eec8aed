"""Accounts, the API keys that speak for them, and the responses that their idempotency keys are bound to."""
