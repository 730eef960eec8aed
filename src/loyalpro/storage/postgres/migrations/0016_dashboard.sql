-- compatible: what the pages of the dashboard read by, and the settings that only they have.

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
