-- The request that caused an event: its id, and the trace context that its caller sent. A client may put personal data into
-- either, so both are erased with the event.

ALTER TABLE events
    ADD COLUMN request_id TEXT,
    ADD COLUMN traceparent TEXT,
    ADD CONSTRAINT events_origin_check CHECK (erased_at IS NULL OR (request_id IS NULL AND traceparent IS NULL));
