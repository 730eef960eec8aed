-- compatible: people who sign in, the accounts they are members of, their web sessions, and what limits tries to sign in.

-- A row of `users` is a person. `account_id` and `role` are what the person began with; `members` has what holds.
ALTER TABLE users ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN time_zone TEXT;
ALTER TABLE users ADD COLUMN theme TEXT NOT NULL DEFAULT 'system' CHECK (theme IN ('system', 'light', 'dark'));
ALTER TABLE users ADD COLUMN shortcuts INTEGER NOT NULL DEFAULT 1 CHECK (shortcuts IN (0, 1));
ALTER TABLE users ADD COLUMN has_second_factor INTEGER NOT NULL DEFAULT 0 CHECK (has_second_factor IN (0, 1));

CREATE UNIQUE INDEX users_by_email ON users (lower(email));

ALTER TABLE accounts ADD COLUMN requires_second_factor INTEGER NOT NULL DEFAULT 0 CHECK (requires_second_factor IN (0, 1));

CREATE TABLE members (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    person_id TEXT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL CHECK (role IN ('owner', 'developer', 'support', 'viewer')),
    created_at INTEGER NOT NULL,
    last_seen_at INTEGER,
    PRIMARY KEY (account_id, person_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX members_by_person ON members (person_id);

INSERT INTO members (account_id, person_id, role, created_at)
SELECT account_id, id, CASE role WHEN 'owner' THEN 'owner' ELSE 'viewer' END, created_at FROM users;

-- An older program that stores an owner makes a member, too.
CREATE TRIGGER users_are_members AFTER INSERT ON users
BEGIN
    INSERT INTO members (account_id, person_id, role, created_at)
    VALUES (NEW.account_id, NEW.id, CASE NEW.role WHEN 'owner' THEN 'owner' ELSE 'viewer' END, NEW.created_at);
END;

-- The secret of the second factor, sealed. It counts once `users.has_second_factor` is set; `last_step` makes each code valid once.
CREATE TABLE second_factors (
    person_id TEXT PRIMARY KEY REFERENCES users (id),
    sealed BLOB NOT NULL,
    last_step INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Only digests are kept, as of API keys: the codes have 80 random bits.
CREATE TABLE recovery_codes (
    person_id TEXT NOT NULL REFERENCES users (id),
    digest BLOB NOT NULL,
    PRIMARY KEY (person_id, digest)
) STRICT, WITHOUT ROWID;

-- A member who is removed has no web session left.
CREATE TABLE web_sessions (
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    person_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    proved_at INTEGER NOT NULL,
    awaits_code INTEGER NOT NULL CHECK (awaits_code IN (0, 1)),
    address TEXT,
    user_agent TEXT,
    FOREIGN KEY (account_id, person_id) REFERENCES members (account_id, person_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX web_sessions_by_person ON web_sessions (person_id);

CREATE INDEX web_sessions_by_member ON web_sessions (account_id, person_id);

CREATE INDEX web_sessions_by_use ON web_sessions (used_at);

CREATE TABLE invitations (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    digest BLOB NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('owner', 'developer', 'support', 'viewer')),
    note TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX invitations_by_account ON invitations (account_id, id);

CREATE INDEX invitations_by_expiry ON invitations (expires_at);

-- The keys are digests: no e-mail address and no address of a network is kept. `recent` is JSON.
CREATE TABLE sign_in_tries (
    key BLOB PRIMARY KEY,
    recent TEXT NOT NULL,
    blocks INTEGER NOT NULL,
    blocked_until INTEGER NOT NULL,
    forget_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sign_in_tries_by_age ON sign_in_tries (forget_at);

-- The codes that servers have printed while no owner exists.
CREATE TABLE setup_codes (
    digest BLOB PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
