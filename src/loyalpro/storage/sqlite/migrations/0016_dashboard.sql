-- compatible: what the pages of the dashboard read.

-- logs: searches for deliveries in a status that few of them have.
CREATE INDEX deliveries_pending ON deliveries (account_id, id) WHERE status = 'pending';
CREATE INDEX deliveries_exhausted ON deliveries (account_id, id) WHERE status = 'exhausted';
CREATE INDEX deliveries_canceled ON deliveries (account_id, id) WHERE status = 'canceled';
