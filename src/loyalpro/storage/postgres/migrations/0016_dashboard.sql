-- compatible: what the pages of the dashboard read by, and the settings that only they have.

-- logs: searches for deliveries in a status that few of them have.
CREATE INDEX deliveries_exhausted ON deliveries_done (account_id, id) WHERE status = 'exhausted';
CREATE INDEX deliveries_canceled ON deliveries_done (account_id, id) WHERE status = 'canceled';

-- Customers are found by the start of their name, and support may give or take points up to a limit; null: without one.
CREATE INDEX customers_by_name ON customers (account_id, (lower(name) COLLATE "C"), id) WHERE name IS NOT NULL;
ALTER TABLE accounts ADD COLUMN support_points_limit BIGINT CHECK (support_points_limit >= 0);
