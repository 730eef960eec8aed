"""Events, which `webhooks` and `loyalty` share: types, payloads, the envelope, JSON for JavaScript, and the outbox."""
