-- compatible: older programs may go on using this schema
-- When each periodic job ran last, in any process, and when a run last changed something.

CREATE TABLE job_runs (
    job TEXT PRIMARY KEY,
    process TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT NOT NULL,
    pieces BIGINT NOT NULL CHECK (pieces >= 0),
    items BIGINT NOT NULL CHECK (items >= 0),
    error TEXT,
    changed_at BIGINT,
    changed_items BIGINT,
    CHECK ((changed_at IS NULL) = (changed_items IS NULL))
);
