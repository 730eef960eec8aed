"""The HTTP layer: routes, authentication, idempotency, error responses, and the OpenAPI document."""
