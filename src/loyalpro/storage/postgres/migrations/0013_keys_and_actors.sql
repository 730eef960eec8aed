-- API keys have scopes, an expiry, a limit and their last use, and every change has an actor. A key that exists keeps all rights.

ALTER TABLE api_keys ADD COLUMN scopes TEXT NOT NULL
    DEFAULT 'read customers transactions points program webhooks admin';
ALTER TABLE api_keys ADD COLUMN requests_per_minute BIGINT CHECK (requests_per_minute > 0);
ALTER TABLE api_keys ADD COLUMN created_by TEXT NOT NULL DEFAULT 'system:bootstrap';
ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;
ALTER TABLE api_keys ADD COLUMN last_used_at BIGINT;

CREATE INDEX api_keys_by_account ON api_keys (account_id, id);

ALTER TABLE transactions ADD COLUMN actor TEXT;

CREATE TABLE audit_log (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object_id TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX audit_log_by_account ON audit_log (account_id, id);

CREATE INDEX audit_log_by_actor ON audit_log (account_id, actor, id);

CREATE INDEX audit_log_by_object ON audit_log (account_id, object_id, id);
