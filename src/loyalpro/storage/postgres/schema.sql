-- The schema after every migration, written by `make schema`. Nothing runs it: the migrations make it.

CREATE SEQUENCE event_positions;

CREATE OR REPLACE FUNCTION public.lasting_transaction_id(id xid8)
 RETURNS xid8
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$SELECT id$function$;

CREATE OR REPLACE FUNCTION public.refuse_delivery_move()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION 'a finished delivery can only become pending again';
END;
$function$;

CREATE OR REPLACE FUNCTION public.refuse_event_update()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION 'events are frozen';
END;
$function$;

CREATE OR REPLACE FUNCTION public.refuse_ledger_change()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.note IS NULL THEN
        OLD.note := NULL;
        IF NEW IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the ledger is append-only';
END;
$function$;

CREATE TABLE accounts (
    id text NOT NULL,
    name text NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT accounts_pkey PRIMARY KEY (id)
);

CREATE TABLE allocations (
    entry_id text NOT NULL,
    lot_id text NOT NULL,
    points bigint NOT NULL,
    CONSTRAINT allocations_pkey PRIMARY KEY (entry_id, lot_id),
    CONSTRAINT allocations_points_check CHECK ((points > 0))
);

CREATE TABLE api_keys (
    id text NOT NULL,
    account_id text NOT NULL,
    name text NOT NULL,
    digest bytea NOT NULL,
    hint text NOT NULL,
    created_at bigint NOT NULL,
    revoked_at bigint,
    scopes text DEFAULT 'read customers transactions points program webhooks admin'::text NOT NULL,
    requests_per_minute bigint,
    created_by text DEFAULT 'system:bootstrap'::text NOT NULL,
    expires_at bigint,
    last_used_at bigint,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_digest_key UNIQUE (digest),
    CONSTRAINT api_keys_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
    CONSTRAINT api_keys_requests_per_minute_check CHECK ((requests_per_minute > 0))
);

CREATE INDEX api_keys_by_account ON public.api_keys USING btree (account_id, id);

CREATE TABLE attempts (
    delivery_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    started_at bigint NOT NULL,
    outcome text NOT NULL,
    detail text NOT NULL,
    request_headers text NOT NULL,
    response_status bigint,
    response_headers text,
    response_excerpt bytea,
    response_truncated bigint,
    remote_ip text,
    dns_ms double precision,
    connect_ms double precision,
    tls_ms double precision,
    first_byte_ms double precision,
    total_ms double precision,
    requests text,
    responses text,
    CONSTRAINT attempts_pkey PRIMARY KEY (delivery_id, number),
    CONSTRAINT attempts_number_check1 CHECK ((number > 0))
) PARTITION BY RANGE (delivery_id);

CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;

CREATE TABLE audit_log (
    id text NOT NULL,
    account_id text NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    object_id text NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id)
);

CREATE INDEX audit_log_by_account ON public.audit_log USING btree (account_id, id);

CREATE INDEX audit_log_by_actor ON public.audit_log USING btree (account_id, actor, id);

CREATE INDEX audit_log_by_object ON public.audit_log USING btree (account_id, object_id, id);

CREATE TABLE customers (
    id text NOT NULL,
    account_id text NOT NULL,
    external_id text,
    email text,
    phone text,
    name text,
    metadata text NOT NULL,
    status text NOT NULL,
    tier_id text NOT NULL,
    available bigint DEFAULT 0 NOT NULL,
    pending bigint DEFAULT 0 NOT NULL,
    debt bigint DEFAULT 0 NOT NULL,
    lifetime_earned bigint DEFAULT 0 NOT NULL,
    lifetime_redeemed bigint DEFAULT 0 NOT NULL,
    ledger_sequence bigint DEFAULT 0 NOT NULL,
    event_sequence bigint DEFAULT 0 NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    CONSTRAINT customers_pkey PRIMARY KEY (id),
    CONSTRAINT customers_account_id_external_id_key UNIQUE (account_id, external_id),
    CONSTRAINT customers_available_check CHECK ((available >= 0)),
    CONSTRAINT customers_check CHECK (((debt = 0) OR (available = 0))),
    CONSTRAINT customers_debt_check CHECK ((debt >= 0)),
    CONSTRAINT customers_lifetime_earned_check CHECK ((lifetime_earned >= 0)),
    CONSTRAINT customers_lifetime_redeemed_check CHECK ((lifetime_redeemed >= 0)),
    CONSTRAINT customers_pending_check CHECK ((pending >= 0)),
    CONSTRAINT customers_status_check CHECK ((status = ANY (ARRAY['active'::text, 'deleted'::text])))
);

CREATE INDEX customers_by_account ON public.customers USING btree (account_id, id);

CREATE INDEX customers_by_email_and_id ON public.customers USING btree (account_id, email, id) WHERE (email IS NOT NULL);

CREATE TABLE deliveries (
    id text COLLATE "C" NOT NULL,
    account_id text NOT NULL,
    endpoint_id text NOT NULL,
    event_id text NOT NULL,
    event_type text NOT NULL,
    status text NOT NULL,
    attempts bigint DEFAULT 0 NOT NULL,
    uncounted_attempts bigint DEFAULT 0 NOT NULL,
    due_at bigint,
    first_attempt_at bigint,
    customer_id text,
    sequence bigint,
    outcome text,
    fallback_status text,
    fallback_due_at bigint,
    created_at bigint NOT NULL,
    finished_at bigint,
    CONSTRAINT deliveries_pkey PRIMARY KEY (id, status),
    CONSTRAINT deliveries_check3 CHECK (((status = 'pending'::text) = (finished_at IS NULL))),
    CONSTRAINT deliveries_check4 CHECK (((due_at IS NOT NULL) OR (customer_id IS NOT NULL))),
    CONSTRAINT deliveries_check5 CHECK (((fallback_status IS NULL) OR (status = 'pending'::text))),
    CONSTRAINT deliveries_check6 CHECK (((uncounted_attempts >= 0) AND (uncounted_attempts <= attempts))),
    CONSTRAINT deliveries_fallback_status_check CHECK ((fallback_status = ANY (ARRAY['pending'::text, 'succeeded'::text, 'exhausted'::text, 'canceled'::text]))),
    CONSTRAINT deliveries_status_check1 CHECK ((status = ANY (ARRAY['pending'::text, 'succeeded'::text, 'exhausted'::text, 'canceled'::text])))
) PARTITION BY LIST (status);

CREATE INDEX deliveries_by_account ON ONLY public.deliveries USING btree (account_id, id);

CREATE INDEX deliveries_by_endpoint ON ONLY public.deliveries USING btree (endpoint_id, id);

CREATE TRIGGER deliveries_move_through_pending BEFORE UPDATE OF status ON public.deliveries FOR EACH ROW WHEN (((old.status <> 'pending'::text) AND (new.status <> 'pending'::text))) EXECUTE FUNCTION refuse_delivery_move();

CREATE TABLE deliveries_done PARTITION OF deliveries FOR VALUES IN ('succeeded', 'exhausted', 'canceled') PARTITION BY RANGE (id);

CREATE TABLE deliveries_done_default PARTITION OF deliveries_done DEFAULT;

CREATE TABLE deliveries_owed PARTITION OF deliveries FOR VALUES IN ('pending') WITH (autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_cost_delay=0);

CREATE INDEX deliveries_by_hand ON public.deliveries_owed USING btree (endpoint_id) WHERE (fallback_status IS NOT NULL);

CREATE INDEX deliveries_closing ON public.deliveries_owed USING btree (first_attempt_at) WHERE (first_attempt_at IS NOT NULL);

CREATE INDEX deliveries_in_lane ON public.deliveries_owed USING btree (endpoint_id, due_at, id) WHERE (due_at IS NOT NULL);

CREATE INDEX deliveries_in_order ON public.deliveries_owed USING btree (endpoint_id, customer_id, sequence) WHERE (customer_id IS NOT NULL);

CREATE TABLE endpoint_health (
    endpoint_id text NOT NULL,
    failures bigint NOT NULL,
    failing_since bigint,
    probes bigint NOT NULL,
    probe_at bigint,
    recovered_at bigint,
    warned_days bigint NOT NULL,
    CONSTRAINT endpoint_health_pkey PRIMARY KEY (endpoint_id),
    CONSTRAINT endpoint_health_check CHECK (((failures > 0) = (failing_since IS NOT NULL))),
    CONSTRAINT endpoint_health_check1 CHECK (((probe_at IS NULL) OR (failing_since IS NOT NULL))),
    CONSTRAINT endpoint_health_failures_check CHECK ((failures >= 0)),
    CONSTRAINT endpoint_health_probes_check CHECK ((probes >= 0))
);

CREATE TABLE endpoint_secrets (
    endpoint_id text NOT NULL,
    version bigint NOT NULL,
    sealed bytea NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint,
    promoted_at bigint,
    CONSTRAINT endpoint_secrets_pkey PRIMARY KEY (endpoint_id, version),
    CONSTRAINT endpoint_secrets_endpoint_id_fkey FOREIGN KEY (endpoint_id) REFERENCES endpoints(id)
);

CREATE TABLE endpoints (
    id text NOT NULL,
    account_id text NOT NULL,
    url text NOT NULL,
    description text,
    types text NOT NULL,
    ordering text NOT NULL,
    rate_limit bigint,
    headers text NOT NULL,
    status text NOT NULL,
    status_reason text,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    deleted_at bigint,
    sealed_headers bytea,
    CONSTRAINT endpoints_pkey PRIMARY KEY (id),
    CONSTRAINT endpoints_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
    CONSTRAINT endpoints_ordering_check CHECK ((ordering = ANY (ARRAY['none'::text, 'customer'::text]))),
    CONSTRAINT endpoints_rate_limit_check CHECK ((rate_limit > 0)),
    CONSTRAINT endpoints_status_check CHECK ((status = ANY (ARRAY['enabled'::text, 'paused'::text, 'disabled'::text])))
);

CREATE INDEX endpoints_by_account ON public.endpoints USING btree (account_id, id) WHERE (deleted_at IS NULL);

CREATE TABLE erasures (
    customer_id text COLLATE "C" NOT NULL,
    account_id text NOT NULL,
    through_sequence bigint NOT NULL,
    event_cursor text,
    transaction_cursor text,
    events bigint DEFAULT 0 NOT NULL,
    canceled bigint DEFAULT 0 NOT NULL,
    created_at bigint NOT NULL,
    finished_at bigint,
    CONSTRAINT erasures_pkey PRIMARY KEY (customer_id),
    CONSTRAINT erasures_through_sequence_check CHECK ((through_sequence >= 0))
);

CREATE INDEX erasures_finished ON public.erasures USING btree (finished_at) WHERE (finished_at IS NOT NULL);

CREATE INDEX erasures_running ON public.erasures USING btree (customer_id) WHERE (finished_at IS NULL);

CREATE TABLE events (
    position bigint DEFAULT nextval('event_positions'::regclass) NOT NULL,
    transaction_id xid8 DEFAULT lasting_transaction_id(pg_current_xact_id()) NOT NULL,
    id text COLLATE "C" NOT NULL,
    account_id text NOT NULL,
    type text NOT NULL,
    customer_id text,
    sequence bigint,
    created_at bigint NOT NULL,
    owed bigint NOT NULL,
    test bigint DEFAULT 0 NOT NULL,
    body bytea NOT NULL,
    erased_at bigint,
    request_id text,
    traceparent text,
    CONSTRAINT events_pkey PRIMARY KEY (id),
    CONSTRAINT events_body_check1 CHECK ((length(body) <= 65536)),
    CONSTRAINT events_check1 CHECK (((customer_id IS NULL) = (sequence IS NULL))),
    CONSTRAINT events_origin_check CHECK (((erased_at IS NULL) OR ((request_id IS NULL) AND (traceparent IS NULL)))),
    CONSTRAINT events_sequence_check1 CHECK ((sequence > 0)),
    CONSTRAINT events_test_check1 CHECK ((test = ANY (ARRAY[(0)::bigint, (1)::bigint])))
) PARTITION BY RANGE (id);

CREATE INDEX events_by_account ON ONLY public.events USING btree (account_id, transaction_id, "position") WHERE (test = 0);

CREATE INDEX events_by_customer ON ONLY public.events USING btree (customer_id, transaction_id, "position") WHERE (customer_id IS NOT NULL);

CREATE TRIGGER events_are_frozen BEFORE UPDATE ON public.events FOR EACH ROW WHEN (((new.erased_at IS NULL) OR (old.erased_at IS NOT NULL))) EXECUTE FUNCTION refuse_event_update();

CREATE TABLE events_default PARTITION OF events DEFAULT;

CREATE TABLE idempotency_keys (
    account_id text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    status_code bigint NOT NULL,
    body bytea NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (account_id, key),
    CONSTRAINT idempotency_keys_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id)
);

CREATE INDEX idempotency_keys_by_age ON public.idempotency_keys USING btree (created_at);

CREATE TABLE job_runs (
    job text NOT NULL,
    process text NOT NULL,
    started_at bigint NOT NULL,
    finished_at bigint NOT NULL,
    pieces bigint NOT NULL,
    items bigint NOT NULL,
    error text,
    changed_at bigint,
    changed_items bigint,
    CONSTRAINT job_runs_pkey PRIMARY KEY (job),
    CONSTRAINT job_runs_check CHECK (((changed_at IS NULL) = (changed_items IS NULL))),
    CONSTRAINT job_runs_items_check CHECK ((items >= 0)),
    CONSTRAINT job_runs_pieces_check CHECK ((pieces >= 0))
);

CREATE TABLE leases (
    delivery_id text COLLATE "C" NOT NULL,
    worker text NOT NULL,
    endpoint_id text NOT NULL,
    attempt bigint NOT NULL,
    started_at bigint NOT NULL,
    CONSTRAINT leases_pkey PRIMARY KEY (delivery_id),
    CONSTRAINT leases_attempt_check CHECK ((attempt > 0))
) WITH (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=5000, autovacuum_vacuum_cost_delay=0);

CREATE INDEX leases_by_worker ON public.leases USING btree (worker);

CREATE TABLE ledger_entries (
    id text NOT NULL,
    customer_id text NOT NULL,
    sequence bigint NOT NULL,
    type text NOT NULL,
    points bigint NOT NULL,
    balance_after bigint NOT NULL,
    pending_after bigint NOT NULL,
    source_type text NOT NULL,
    source_id text NOT NULL,
    part bigint DEFAULT 0 NOT NULL,
    reverses_entry_id text,
    reason_code text,
    note text,
    actor text NOT NULL,
    rules text NOT NULL,
    occurred_at bigint NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT ledger_entries_pkey PRIMARY KEY (id),
    CONSTRAINT ledger_entries_customer_id_sequence_key UNIQUE (customer_id, sequence),
    CONSTRAINT ledger_entries_customer_id_type_source_type_source_id_part_key UNIQUE (customer_id, type, source_type, source_id, part),
    CONSTRAINT ledger_entries_pending_after_check CHECK ((pending_after >= 0)),
    CONSTRAINT ledger_entries_points_check CHECK ((points <> 0)),
    CONSTRAINT ledger_entries_sequence_check CHECK ((sequence > 0)),
    CONSTRAINT ledger_entries_type_check CHECK ((type = ANY (ARRAY['earn'::text, 'promo_earn'::text, 'redeem'::text, 'redeem_reversal'::text, 'clawback'::text, 'expire'::text, 'adjust'::text, 'activate'::text, 'cancel_pending'::text, 'import'::text])))
);

CREATE TRIGGER ledger_entries_are_never_changed BEFORE DELETE OR UPDATE ON public.ledger_entries FOR EACH ROW EXECUTE FUNCTION refuse_ledger_change();

CREATE TABLE lots (
    id text NOT NULL,
    customer_id text NOT NULL,
    entry_id text NOT NULL,
    original bigint NOT NULL,
    remaining bigint NOT NULL,
    earned_at bigint NOT NULL,
    activates_at bigint,
    expires_at bigint,
    status text NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT lots_pkey PRIMARY KEY (id),
    CONSTRAINT lots_check CHECK (((remaining >= 0) AND (remaining <= original))),
    CONSTRAINT lots_original_check CHECK ((original > 0)),
    CONSTRAINT lots_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'active'::text, 'canceled'::text])))
);

CREATE INDEX lots_by_customer ON public.lots USING btree (customer_id, id);

CREATE INDEX lots_to_expire ON public.lots USING btree (expires_at) WHERE ((remaining > 0) AND (expires_at IS NOT NULL));

CREATE INDEX lots_to_spend ON public.lots USING btree (customer_id, expires_at, id) WHERE (remaining > 0);

CREATE TABLE notices (
    id text COLLATE "C" NOT NULL,
    account_id text NOT NULL,
    endpoint_id text NOT NULL,
    kind text NOT NULL,
    detail text NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT notices_pkey PRIMARY KEY (id),
    CONSTRAINT notices_kind_check CHECK ((kind = ANY (ARRAY['endpoint_failing'::text, 'endpoint_disabled'::text, 'deliveries_given_up'::text])))
);

CREATE INDEX notices_by_account ON public.notices USING btree (account_id, id);

CREATE TABLE programs (
    account_id text NOT NULL,
    rules text NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT programs_pkey PRIMARY KEY (account_id),
    CONSTRAINT programs_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id)
);

CREATE TABLE replays (
    id text COLLATE "C" NOT NULL,
    account_id text NOT NULL,
    endpoint_id text NOT NULL,
    since bigint NOT NULL,
    until bigint NOT NULL,
    types text,
    statuses text NOT NULL,
    status text NOT NULL,
    cursor text,
    examined bigint DEFAULT 0 NOT NULL,
    replayed bigint DEFAULT 0 NOT NULL,
    created_at bigint NOT NULL,
    finished_at bigint,
    CONSTRAINT replays_pkey PRIMARY KEY (id),
    CONSTRAINT replays_check CHECK (((status = 'running'::text) = (finished_at IS NULL))),
    CONSTRAINT replays_status_check CHECK ((status = ANY (ARRAY['running'::text, 'done'::text, 'canceled'::text])))
);

CREATE INDEX replays_by_endpoint ON public.replays USING btree (endpoint_id, id);

CREATE INDEX replays_running ON public.replays USING btree (id) WHERE (status = 'running'::text);

CREATE TABLE schema_migrations (
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at bigint NOT NULL,
    compatible bigint DEFAULT 0 NOT NULL,
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (name)
);

CREATE TABLE transactions (
    id text NOT NULL,
    account_id text NOT NULL,
    customer_id text NOT NULL,
    external_id text,
    status text NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL,
    items text NOT NULL,
    channel text,
    location_id text,
    employee_id text,
    metadata text NOT NULL,
    points_earned bigint NOT NULL,
    occurred_at bigint NOT NULL,
    created_at bigint NOT NULL,
    actor text,
    CONSTRAINT transactions_pkey PRIMARY KEY (id),
    CONSTRAINT transactions_account_id_external_id_key UNIQUE (account_id, external_id),
    CONSTRAINT transactions_amount_check CHECK ((amount >= 0)),
    CONSTRAINT transactions_points_earned_check CHECK ((points_earned >= 0)),
    CONSTRAINT transactions_status_check CHECK ((status = 'completed'::text))
);

CREATE INDEX transactions_by_account ON public.transactions USING btree (account_id, id);

CREATE INDEX transactions_by_customer ON public.transactions USING btree (customer_id, id);

CREATE TABLE users (
    id text NOT NULL,
    account_id text NOT NULL,
    email text NOT NULL,
    password_hash text NOT NULL,
    role text NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
    CONSTRAINT users_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'member'::text])))
);

CREATE TABLE workers (
    id text NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    started_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    CONSTRAINT workers_pkey PRIMARY KEY (id)
);
