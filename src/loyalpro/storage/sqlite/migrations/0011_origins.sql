-- The request that caused an event: its id, and the trace context that its caller sent. A client may put personal data into
-- either, so both are erased with the event.

ALTER TABLE events ADD COLUMN request_id TEXT CHECK (request_id IS NULL OR erased_at IS NULL);
ALTER TABLE events ADD COLUMN traceparent TEXT CHECK (traceparent IS NULL OR erased_at IS NULL);
