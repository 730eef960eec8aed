-- compatible: what the pages of the dashboard read by, and the settings that only they have.

-- logs: searches for deliveries in a status that few of them have.
CREATE INDEX deliveries_exhausted ON deliveries_done (account_id, id) WHERE status = 'exhausted';
CREATE INDEX deliveries_canceled ON deliveries_done (account_id, id) WHERE status = 'canceled';

-- Customers are found by the start of their name, and support may give or take points up to a limit; null: without one.
CREATE INDEX customers_by_name ON customers (account_id, (lower(name) COLLATE "C"), id) WHERE name IS NOT NULL;
ALTER TABLE accounts ADD COLUMN support_points_limit BIGINT CHECK (support_points_limit >= 0);

-- Counters of attempts: how many ended in which way in a span of time.
CREATE TABLE delivery_counters (
    endpoint_id TEXT NOT NULL,
    span_ms BIGINT NOT NULL,
    start_at BIGINT NOT NULL,
    slot BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    response_status BIGINT NOT NULL,
    bucket BIGINT NOT NULL,
    attempts BIGINT NOT NULL CHECK (attempts > 0),
    last_at BIGINT NOT NULL,
    PRIMARY KEY (endpoint_id, span_ms, start_at, slot, outcome, response_status, bucket)
) WITH (fillfactor = 50);

CREATE INDEX delivery_counters_by_age ON delivery_counters (span_ms, start_at);

CREATE INDEX deliveries_given_up ON deliveries (endpoint_id, finished_at) WHERE status = 'exhausted';
-- Churn: how many customers have which score, counted by each run.
ALTER TABLE churn_runs ADD COLUMN histogram TEXT;
