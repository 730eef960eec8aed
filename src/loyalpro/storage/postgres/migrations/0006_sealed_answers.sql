-- What idempotency keys were answered is kept sealed from now on: it may hold signing secrets. What was kept in the clear goes.

DELETE FROM idempotency_keys;
