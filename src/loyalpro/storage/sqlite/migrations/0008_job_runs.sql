-- compatible: older programs may go on using this schema
-- When each periodic job ran last, in any process, and when a run last changed something.

CREATE TABLE job_runs (
    job TEXT PRIMARY KEY,
    process TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    pieces INTEGER NOT NULL CHECK (pieces >= 0),
    items INTEGER NOT NULL CHECK (items >= 0),
    error TEXT,
    changed_at INTEGER,
    changed_items INTEGER,
    CHECK ((changed_at IS NULL) = (changed_items IS NULL))
) STRICT, WITHOUT ROWID;
