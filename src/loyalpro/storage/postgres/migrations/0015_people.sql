-- compatible: people who sign in, the accounts they are members of, their web sessions, and what limits tries to sign in.

-- A row of `users` is a person. `account_id` and `role` are what the person began with; `members` has what holds.
ALTER TABLE users ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN time_zone TEXT;
ALTER TABLE users ADD COLUMN theme TEXT NOT NULL DEFAULT 'system' CHECK (theme IN ('system', 'light', 'dark'));
ALTER TABLE users ADD COLUMN shortcuts BIGINT NOT NULL DEFAULT 1 CHECK (shortcuts IN (0, 1));
ALTER TABLE users ADD COLUMN has_second_factor BIGINT NOT NULL DEFAULT 0 CHECK (has_second_factor IN (0, 1));

CREATE UNIQUE INDEX users_by_email ON users (lower(email));

ALTER TABLE accounts ADD COLUMN requires_second_factor BIGINT NOT NULL DEFAULT 0 CHECK (requires_second_factor IN (0, 1));

CREATE TABLE members (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    person_id TEXT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL CHECK (role IN ('owner', 'developer', 'support', 'viewer')),
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT,
    PRIMARY KEY (account_id, person_id)
);

CREATE INDEX members_by_person ON members (person_id);

INSERT INTO members (account_id, person_id, role, created_at)
SELECT account_id, id, CASE role WHEN 'owner' THEN 'owner' ELSE 'viewer' END, created_at FROM users;

-- An older program that stores an owner makes a member, too.
CREATE FUNCTION make_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO members (account_id, person_id, role, created_at)
    VALUES (NEW.account_id, NEW.id, CASE NEW.role WHEN 'owner' THEN 'owner' ELSE 'viewer' END, NEW.created_at);
    RETURN NEW;
END $$;

CREATE TRIGGER users_are_members AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION make_member();

-- The secret of the second factor, sealed. It counts once `users.has_second_factor` is set; `last_step` makes each code valid once.
CREATE TABLE second_factors (
    person_id TEXT PRIMARY KEY REFERENCES users (id),
    sealed BYTEA NOT NULL,
    last_step BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Only digests are kept, as of API keys: the codes have 80 random bits.
CREATE TABLE recovery_codes (
    person_id TEXT NOT NULL REFERENCES users (id),
    digest BYTEA NOT NULL,
    PRIMARY KEY (person_id, digest)
);

-- A member who is removed has no web session left.
CREATE TABLE web_sessions (
    id TEXT PRIMARY KEY,
    digest BYTEA NOT NULL UNIQUE,
    person_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    proved_at BIGINT NOT NULL,
    awaits_code BIGINT NOT NULL CHECK (awaits_code IN (0, 1)),
    address TEXT,
    user_agent TEXT,
    FOREIGN KEY (account_id, person_id) REFERENCES members (account_id, person_id) ON DELETE CASCADE
);

CREATE INDEX web_sessions_by_person ON web_sessions (person_id);

CREATE INDEX web_sessions_by_member ON web_sessions (account_id, person_id);

CREATE INDEX web_sessions_by_use ON web_sessions (used_at);

CREATE TABLE invitations (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    digest BYTEA NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('owner', 'developer', 'support', 'viewer')),
    note TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX invitations_by_account ON invitations (account_id, id);

CREATE INDEX invitations_by_expiry ON invitations (expires_at);

-- The keys are digests: no e-mail address and no address of a network is kept. `recent` is JSON.
CREATE TABLE sign_in_tries (
    key BYTEA PRIMARY KEY,
    recent TEXT NOT NULL,
    blocks BIGINT NOT NULL,
    blocked_until BIGINT NOT NULL,
    forget_at BIGINT NOT NULL
);

CREATE INDEX sign_in_tries_by_age ON sign_in_tries (forget_at);

-- The codes that servers have printed while no owner exists.
CREATE TABLE setup_codes (
    digest BYTEA PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
