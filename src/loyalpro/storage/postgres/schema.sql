-- The schema after every migration, written by `make schema`. Nothing runs it: the migrations make it.

CREATE SEQUENCE event_positions;

CREATE OR REPLACE FUNCTION public.lasting_transaction_id(id xid8)
 RETURNS xid8
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$SELECT id$function$;

CREATE OR REPLACE FUNCTION public.make_member()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO members (account_id, person_id, role, created_at)
    VALUES (NEW.account_id, NEW.id, CASE NEW.role WHEN 'owner' THEN 'owner' ELSE 'viewer' END, NEW.created_at);
    RETURN NEW;
END $function$;

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
    requires_second_factor bigint DEFAULT 0 NOT NULL,
    support_points_limit bigint,
    CONSTRAINT accounts_pkey PRIMARY KEY (id),
    CONSTRAINT accounts_requires_second_factor_check CHECK ((requires_second_factor = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT accounts_support_points_limit_check CHECK ((support_points_limit >= 0))
);

CREATE TABLE adjustments (
    id text NOT NULL,
    account_id text NOT NULL,
    customer_id text NOT NULL,
    external_id text,
    points bigint NOT NULL,
    reason_code text NOT NULL,
    expires_at bigint,
    counts_toward_tier bigint NOT NULL,
    allow_negative bigint NOT NULL,
    entry_id text NOT NULL,
    lot_id text,
    actor text NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT adjustments_pkey PRIMARY KEY (id),
    CONSTRAINT adjustments_account_id_external_id_key UNIQUE (account_id, external_id),
    CONSTRAINT adjustments_allow_negative_check CHECK ((allow_negative = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT adjustments_check CHECK (((points > 0) = (lot_id IS NOT NULL))),
    CONSTRAINT adjustments_counts_toward_tier_check CHECK ((counts_toward_tier = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT adjustments_points_check CHECK ((points <> 0))
);

CREATE INDEX adjustments_by_customer ON public.adjustments USING btree (customer_id, id);

CREATE TABLE allocations (
    entry_id text NOT NULL,
    lot_id text NOT NULL,
    points bigint NOT NULL,
    kind text NOT NULL,
    CONSTRAINT allocations_pkey PRIMARY KEY (entry_id, lot_id, kind),
    CONSTRAINT allocations_kind_check CHECK ((kind = ANY (ARRAY['spend'::text, 'absorb'::text, 'claw'::text, 'expire'::text, 'cancel'::text, 'restore'::text, 'merge'::text]))),
    CONSTRAINT allocations_points_check CHECK (((points <> 0) AND ((points < 0) = (kind = 'restore'::text))))
);

CREATE INDEX allocations_by_lot ON public.allocations USING btree (lot_id);

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
    request_id text,
    address text,
    changes text,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id)
);

CREATE INDEX audit_log_by_account ON public.audit_log USING btree (account_id, id);

CREATE INDEX audit_log_by_actor ON public.audit_log USING btree (account_id, actor, id);

CREATE INDEX audit_log_by_object ON public.audit_log USING btree (account_id, object_id, id);

CREATE TABLE campaign_uses (
    campaign_id text NOT NULL,
    customer_id text NOT NULL,
    uses bigint NOT NULL,
    CONSTRAINT campaign_uses_pkey PRIMARY KEY (campaign_id, customer_id)
);

CREATE INDEX campaign_uses_by_customer ON public.campaign_uses USING btree (customer_id, campaign_id);

CREATE TABLE campaigns (
    id text NOT NULL,
    account_id text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    multiplier_permille bigint,
    points bigint,
    match text,
    min_spend bigint,
    tags text DEFAULT '[]'::text NOT NULL,
    tier_ids text DEFAULT '[]'::text NOT NULL,
    starts_at bigint NOT NULL,
    ends_at bigint,
    weekdays text DEFAULT '[]'::text NOT NULL,
    limit_per_customer bigint,
    status text NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    CONSTRAINT campaigns_pkey PRIMARY KEY (id),
    CONSTRAINT campaigns_check CHECK (((kind = 'multiplier'::text) = (multiplier_permille IS NOT NULL))),
    CONSTRAINT campaigns_check1 CHECK (((kind = 'bonus'::text) = (points IS NOT NULL))),
    CONSTRAINT campaigns_kind_check CHECK ((kind = ANY (ARRAY['multiplier'::text, 'bonus'::text]))),
    CONSTRAINT campaigns_limit_per_customer_check CHECK ((limit_per_customer > 0)),
    CONSTRAINT campaigns_multiplier_permille_check CHECK ((multiplier_permille > 0)),
    CONSTRAINT campaigns_points_check CHECK ((points > 0)),
    CONSTRAINT campaigns_status_check CHECK ((status = ANY (ARRAY['active'::text, 'paused'::text, 'archived'::text])))
);

CREATE INDEX campaigns_by_account ON public.campaigns USING btree (account_id, id);

CREATE TABLE churn_models (
    account_id text NOT NULL,
    version text NOT NULL,
    parameters text,
    gap_days double precision,
    fitted_customers bigint NOT NULL,
    log_likelihood double precision,
    created_at bigint NOT NULL,
    CONSTRAINT churn_models_pkey PRIMARY KEY (account_id, version)
);

CREATE TABLE churn_runs (
    id text NOT NULL,
    account_id text NOT NULL,
    as_of bigint NOT NULL,
    requested bigint NOT NULL,
    baseline bigint NOT NULL,
    actor text NOT NULL,
    created_at bigint NOT NULL,
    status text NOT NULL,
    cursor text NOT NULL,
    settings text,
    announcement text,
    model_version text,
    parameters text,
    low bigint NOT NULL,
    medium bigint NOT NULL,
    high bigint NOT NULL,
    events bigint NOT NULL,
    started_at bigint,
    finished_at bigint,
    claimed_until bigint,
    histogram text,
    CONSTRAINT churn_runs_pkey PRIMARY KEY (id),
    CONSTRAINT churn_runs_announcement_check CHECK ((announcement = ANY (ARRAY['report'::text, 'silent'::text, 'emit'::text]))),
    CONSTRAINT churn_runs_baseline_check CHECK ((baseline = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT churn_runs_requested_check CHECK ((requested = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT churn_runs_status_check CHECK ((status = ANY (ARRAY['queued'::text, 'running'::text, 'done'::text, 'failed'::text])))
);

CREATE INDEX churn_runs_by_account ON public.churn_runs USING btree (account_id, id);

CREATE INDEX churn_runs_unfinished ON public.churn_runs USING btree (account_id, id) WHERE (status = ANY (ARRAY['queued'::text, 'running'::text]));

CREATE TABLE churn_scores (
    customer_id text NOT NULL,
    account_id text NOT NULL,
    score double precision NOT NULL,
    p_alive double precision,
    p_purchase double precision,
    model_version text NOT NULL,
    scored_at bigint NOT NULL,
    level text NOT NULL,
    level_since bigint NOT NULL,
    last_purchase_on bigint NOT NULL,
    medium_event_on bigint,
    high_event_on bigint,
    CONSTRAINT churn_scores_pkey PRIMARY KEY (customer_id),
    CONSTRAINT churn_scores_level_check CHECK ((level = ANY (ARRAY['low'::text, 'medium'::text, 'high'::text]))),
    CONSTRAINT churn_scores_score_check CHECK (((score >= (0)::double precision) AND (score <= (1)::double precision)))
);

CREATE INDEX churn_scores_by_account ON public.churn_scores USING btree (account_id, customer_id);

CREATE INDEX churn_scores_by_level ON public.churn_scores USING btree (account_id, level, customer_id);

CREATE TABLE churn_settings (
    account_id text NOT NULL,
    settings text NOT NULL,
    next_run_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    CONSTRAINT churn_settings_pkey PRIMARY KEY (account_id)
);

CREATE TABLE customer_days (
    customer_id text NOT NULL,
    day bigint NOT NULL,
    account_id text NOT NULL,
    purchases bigint DEFAULT 0 NOT NULL,
    spend bigint DEFAULT 0 NOT NULL,
    points_qualifying bigint DEFAULT 0 NOT NULL,
    refunds bigint DEFAULT 0 NOT NULL,
    refunded bigint DEFAULT 0 NOT NULL,
    redemptions bigint DEFAULT 0 NOT NULL,
    points_redeemed bigint DEFAULT 0 NOT NULL,
    CONSTRAINT customer_days_pkey PRIMARY KEY (customer_id, day)
);

CREATE TABLE customer_tags (
    account_id text NOT NULL,
    tag text NOT NULL,
    customer_id text NOT NULL,
    CONSTRAINT customer_tags_pkey PRIMARY KEY (account_id, tag, customer_id)
);

CREATE INDEX customer_tags_by_customer ON public.customer_tags USING btree (customer_id);

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
    email_key text,
    phone_key text,
    tags text DEFAULT '[]'::text NOT NULL,
    merged_into_id text,
    tier_since bigint DEFAULT 0 NOT NULL,
    tier_review_at bigint,
    tier_locked_until bigint,
    tier_lock_reason text,
    points_expire_at bigint,
    next_due_at bigint,
    first_purchase_at bigint,
    last_purchase_at bigint,
    security_changed_at bigint,
    earning_blocked bigint DEFAULT 0 NOT NULL,
    redeeming_blocked bigint DEFAULT 0 NOT NULL,
    CONSTRAINT customers_pkey PRIMARY KEY (id),
    CONSTRAINT customers_account_id_external_id_key UNIQUE (account_id, external_id),
    CONSTRAINT customers_available_check CHECK ((available >= 0)),
    CONSTRAINT customers_check CHECK (((debt = 0) OR (available = 0))),
    CONSTRAINT customers_debt_check CHECK ((debt >= 0)),
    CONSTRAINT customers_earning_blocked_check CHECK ((earning_blocked = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT customers_lifetime_earned_check CHECK ((lifetime_earned >= 0)),
    CONSTRAINT customers_lifetime_redeemed_check CHECK ((lifetime_redeemed >= 0)),
    CONSTRAINT customers_merged_check CHECK (((status = 'merged'::text) = (merged_into_id IS NOT NULL))),
    CONSTRAINT customers_pending_check CHECK ((pending >= 0)),
    CONSTRAINT customers_redeeming_blocked_check CHECK ((redeeming_blocked = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT customers_status_check CHECK ((status = ANY (ARRAY['active'::text, 'merged'::text, 'deleted'::text])))
);

CREATE INDEX customers_by_account ON public.customers USING btree (account_id, id);

CREATE INDEX customers_by_email ON public.customers USING btree (account_id, email_key, id) WHERE (email_key IS NOT NULL);

CREATE INDEX customers_by_name ON public.customers USING btree (account_id, lower(name) COLLATE "C", id) WHERE (name IS NOT NULL);

CREATE INDEX customers_by_phone ON public.customers USING btree (account_id, phone_key, id) WHERE (phone_key IS NOT NULL);

CREATE INDEX customers_by_tier ON public.customers USING btree (account_id, tier_id, id);

CREATE INDEX customers_due ON public.customers USING btree (next_due_at, id) WHERE (next_due_at IS NOT NULL);

CREATE INDEX customers_merged ON public.customers USING btree (merged_into_id, id) WHERE (merged_into_id IS NOT NULL);

CREATE INDEX customers_to_review ON public.customers USING btree (account_id, tier_review_at, id) WHERE (tier_review_at IS NOT NULL);

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

CREATE INDEX deliveries_given_up ON ONLY public.deliveries USING btree (endpoint_id, finished_at) WHERE (status = 'exhausted'::text);

CREATE TRIGGER deliveries_move_through_pending BEFORE UPDATE OF status ON public.deliveries FOR EACH ROW WHEN (((old.status <> 'pending'::text) AND (new.status <> 'pending'::text))) EXECUTE FUNCTION refuse_delivery_move();

CREATE TABLE deliveries_done PARTITION OF deliveries FOR VALUES IN ('succeeded', 'exhausted', 'canceled') PARTITION BY RANGE (id);

CREATE INDEX deliveries_canceled ON ONLY public.deliveries_done USING btree (account_id, id) WHERE (status = 'canceled'::text);

CREATE INDEX deliveries_exhausted ON ONLY public.deliveries_done USING btree (account_id, id) WHERE (status = 'exhausted'::text);

CREATE TABLE deliveries_done_default PARTITION OF deliveries_done DEFAULT;

CREATE TABLE deliveries_owed PARTITION OF deliveries FOR VALUES IN ('pending') WITH (autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_cost_delay=0);

CREATE INDEX deliveries_by_hand ON public.deliveries_owed USING btree (endpoint_id) WHERE (fallback_status IS NOT NULL);

CREATE INDEX deliveries_closing ON public.deliveries_owed USING btree (first_attempt_at) WHERE (first_attempt_at IS NOT NULL);

CREATE INDEX deliveries_in_lane ON public.deliveries_owed USING btree (endpoint_id, due_at, id) WHERE (due_at IS NOT NULL);

CREATE INDEX deliveries_in_order ON public.deliveries_owed USING btree (endpoint_id, customer_id, sequence) WHERE (customer_id IS NOT NULL);

CREATE TABLE delivery_counters (
    endpoint_id text NOT NULL,
    span_ms bigint NOT NULL,
    start_at bigint NOT NULL,
    slot bigint NOT NULL,
    outcome text NOT NULL,
    response_status bigint NOT NULL,
    bucket bigint NOT NULL,
    attempts bigint NOT NULL,
    last_at bigint NOT NULL,
    CONSTRAINT delivery_counters_pkey PRIMARY KEY (endpoint_id, span_ms, start_at, slot, outcome, response_status, bucket),
    CONSTRAINT delivery_counters_attempts_check CHECK ((attempts > 0))
) WITH (fillfactor=50);

CREATE INDEX delivery_counters_by_age ON public.delivery_counters USING btree (span_ms, start_at);

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
    imports bigint DEFAULT 1 NOT NULL,
    CONSTRAINT endpoints_pkey PRIMARY KEY (id),
    CONSTRAINT endpoints_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
    CONSTRAINT endpoints_imports_check CHECK ((imports = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
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
    imported bigint DEFAULT 0 NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (id),
    CONSTRAINT events_body_check1 CHECK ((length(body) <= 65536)),
    CONSTRAINT events_check1 CHECK (((customer_id IS NULL) = (sequence IS NULL))),
    CONSTRAINT events_imported_check CHECK ((imported = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT events_origin_check CHECK (((erased_at IS NULL) OR ((request_id IS NULL) AND (traceparent IS NULL)))),
    CONSTRAINT events_sequence_check1 CHECK ((sequence > 0)),
    CONSTRAINT events_test_check1 CHECK ((test = ANY (ARRAY[(0)::bigint, (1)::bigint])))
) PARTITION BY RANGE (id);

CREATE INDEX events_by_account ON ONLY public.events USING btree (account_id, transaction_id, "position") WHERE (test = 0);

CREATE INDEX events_by_customer ON ONLY public.events USING btree (customer_id, transaction_id, "position") WHERE (customer_id IS NOT NULL);

CREATE TRIGGER events_are_frozen BEFORE UPDATE ON public.events FOR EACH ROW WHEN (((new.erased_at IS NULL) OR (old.erased_at IS NOT NULL))) EXECUTE FUNCTION refuse_event_update();

CREATE TABLE events_default PARTITION OF events DEFAULT;

CREATE TABLE fraud_cases (
    id text NOT NULL,
    account_id text NOT NULL,
    rule_code text NOT NULL,
    rule_version bigint NOT NULL,
    key_type text NOT NULL,
    key_hash bytea NOT NULL,
    customer_id text,
    measurement text NOT NULL,
    evidence text NOT NULL,
    hits bigint NOT NULL,
    status text NOT NULL,
    shadow bigint NOT NULL,
    action text NOT NULL,
    severity text NOT NULL,
    score bigint NOT NULL,
    first_at bigint NOT NULL,
    last_at bigint NOT NULL,
    resolved_at bigint,
    resolved_by text,
    note text,
    settling bigint DEFAULT 0 NOT NULL,
    CONSTRAINT fraud_cases_pkey PRIMARY KEY (id),
    CONSTRAINT fraud_cases_check CHECK (((settling = ANY (ARRAY[(0)::bigint, (1)::bigint])) AND ((settling = 0) OR (status <> 'open'::text)))),
    CONSTRAINT fraud_cases_hits_check CHECK ((hits > 0)),
    CONSTRAINT fraud_cases_shadow_check CHECK ((shadow = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT fraud_cases_status_check CHECK ((status = ANY (ARRAY['open'::text, 'confirmed'::text, 'false_positive'::text, 'lapsed'::text])))
);

CREATE INDEX fraud_cases_by_account ON public.fraud_cases USING btree (account_id, id);

CREATE INDEX fraud_cases_by_customer ON public.fraud_cases USING btree (customer_id, id) WHERE (customer_id IS NOT NULL);

CREATE INDEX fraud_cases_by_key ON public.fraud_cases USING btree (key_hash);

CREATE INDEX fraud_cases_by_rule ON public.fraud_cases USING btree (account_id, rule_code, id);

CREATE INDEX fraud_cases_by_status ON public.fraud_cases USING btree (account_id, status, id);

CREATE UNIQUE INDEX fraud_cases_open ON public.fraud_cases USING btree (account_id, rule_code, key_hash) WHERE (status = 'open'::text);

CREATE INDEX fraud_cases_to_lapse ON public.fraud_cases USING btree (last_at, id) WHERE (status = 'open'::text);

CREATE INDEX fraud_cases_to_settle ON public.fraud_cases USING btree (settling, id) WHERE (settling = 1);

CREATE TABLE fraud_rules (
    account_id text NOT NULL,
    code text NOT NULL,
    params text NOT NULL,
    action text NOT NULL,
    severity text NOT NULL,
    score bigint NOT NULL,
    cooldown_ms bigint NOT NULL,
    enabled bigint NOT NULL,
    shadow bigint NOT NULL,
    version bigint NOT NULL,
    updated_at bigint NOT NULL,
    CONSTRAINT fraud_rules_pkey PRIMARY KEY (account_id, code),
    CONSTRAINT fraud_rules_action_check CHECK ((action = ANY (ARRAY['flag'::text, 'hold'::text, 'block'::text]))),
    CONSTRAINT fraud_rules_cooldown_ms_check CHECK ((cooldown_ms >= 0)),
    CONSTRAINT fraud_rules_enabled_check CHECK ((enabled = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT fraud_rules_score_check CHECK (((score >= 0) AND (score <= 100))),
    CONSTRAINT fraud_rules_severity_check CHECK ((severity = ANY (ARRAY['low'::text, 'medium'::text, 'high'::text]))),
    CONSTRAINT fraud_rules_shadow_check CHECK ((shadow = ANY (ARRAY[(0)::bigint, (1)::bigint])))
);

CREATE TABLE hash_keys (
    account_id text NOT NULL,
    sealed bytea NOT NULL,
    CONSTRAINT hash_keys_pkey PRIMARY KEY (account_id),
    CONSTRAINT hash_keys_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id)
);

CREATE TABLE held_lots (
    case_id text NOT NULL,
    lot_id text NOT NULL,
    CONSTRAINT held_lots_pkey PRIMARY KEY (case_id, lot_id)
);

CREATE INDEX held_lots_by_lot ON public.held_lots USING btree (lot_id, case_id);

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

CREATE TABLE identity_values (
    account_id text NOT NULL,
    kind text NOT NULL,
    hash bytea NOT NULL,
    customer_id text NOT NULL,
    object_id text NOT NULL,
    last_seen bigint NOT NULL,
    CONSTRAINT identity_values_pkey PRIMARY KEY (account_id, kind, hash, customer_id),
    CONSTRAINT identity_values_kind_check CHECK ((kind = ANY (ARRAY['email'::text, 'phone'::text, 'device'::text, 'payment'::text, 'receipt'::text])))
);

CREATE INDEX identity_values_by_age ON public.identity_values USING btree (last_seen);

CREATE INDEX identity_values_by_customer ON public.identity_values USING btree (customer_id);

CREATE TABLE invitations (
    id text NOT NULL,
    account_id text NOT NULL,
    digest bytea NOT NULL,
    role text NOT NULL,
    note text NOT NULL,
    created_by text NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    CONSTRAINT invitations_pkey PRIMARY KEY (id),
    CONSTRAINT invitations_digest_key UNIQUE (digest),
    CONSTRAINT invitations_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
    CONSTRAINT invitations_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'developer'::text, 'support'::text, 'viewer'::text])))
);

CREATE INDEX invitations_by_account ON public.invitations USING btree (account_id, id);

CREATE INDEX invitations_by_expiry ON public.invitations USING btree (expires_at);

CREATE TABLE job_pieces (
    job_id text NOT NULL,
    number bigint NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT job_pieces_pkey PRIMARY KEY (job_id, number)
);

CREATE TABLE job_refusals (
    job_id text NOT NULL,
    line bigint NOT NULL,
    code text NOT NULL,
    detail text NOT NULL,
    param text,
    CONSTRAINT job_refusals_pkey PRIMARY KEY (job_id, line)
);

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

CREATE TABLE jobs (
    id text NOT NULL,
    account_id text NOT NULL,
    kind text NOT NULL,
    status text NOT NULL,
    params text NOT NULL,
    cursor text DEFAULT ''::text NOT NULL,
    total bigint,
    done bigint DEFAULT 0 NOT NULL,
    unchanged bigint DEFAULT 0 NOT NULL,
    refused bigint DEFAULT 0 NOT NULL,
    result text,
    actor text NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    finished_at bigint,
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_status_check CHECK ((status = ANY (ARRAY['queued'::text, 'running'::text, 'done'::text, 'failed'::text, 'canceled'::text])))
);

CREATE INDEX jobs_by_account ON public.jobs USING btree (account_id, id);

CREATE INDEX jobs_finished ON public.jobs USING btree (finished_at, id) WHERE (finished_at IS NOT NULL);

CREATE INDEX jobs_unfinished ON public.jobs USING btree (id) WHERE (status = ANY (ARRAY['queued'::text, 'running'::text]));

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
    account_id text NOT NULL,
    qualifying_day bigint,
    CONSTRAINT ledger_entries_pkey PRIMARY KEY (id),
    CONSTRAINT ledger_entries_customer_id_sequence_key UNIQUE (customer_id, sequence),
    CONSTRAINT ledger_entries_source_id_type_part_key UNIQUE (source_id, type, part),
    CONSTRAINT ledger_entries_pending_after_check CHECK ((pending_after >= 0)),
    CONSTRAINT ledger_entries_points_check CHECK ((points <> 0)),
    CONSTRAINT ledger_entries_sequence_check CHECK ((sequence > 0)),
    CONSTRAINT ledger_entries_type_check CHECK ((type = ANY (ARRAY['earn'::text, 'redeem'::text, 'redeem_reversal'::text, 'clawback'::text, 'expire'::text, 'adjust'::text, 'activate'::text, 'cancel_pending'::text, 'import'::text, 'merge_out'::text, 'merge_in'::text])))
);

CREATE INDEX ledger_entries_by_actor ON public.ledger_entries USING btree (account_id, actor, id) WHERE (type = 'adjust'::text);

CREATE TRIGGER ledger_entries_are_never_changed BEFORE DELETE OR UPDATE ON public.ledger_entries FOR EACH ROW EXECUTE FUNCTION refuse_ledger_change();

CREATE TABLE lots (
    id text NOT NULL,
    customer_id text NOT NULL,
    entry_id text NOT NULL,
    original bigint NOT NULL,
    remaining bigint NOT NULL,
    earned_at bigint NOT NULL,
    activates_at bigint,
    expires_at bigint NOT NULL,
    status text NOT NULL,
    created_at bigint NOT NULL,
    account_id text NOT NULL,
    transaction_id text,
    hold_case_id text,
    CONSTRAINT lots_pkey PRIMARY KEY (id),
    CONSTRAINT lots_check CHECK (((remaining >= 0) AND (remaining <= original))),
    CONSTRAINT lots_original_check CHECK ((original > 0)),
    CONSTRAINT lots_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'active'::text, 'canceled'::text])))
);

CREATE INDEX lots_by_customer ON public.lots USING btree (customer_id, id);

CREATE INDEX lots_by_transaction ON public.lots USING btree (transaction_id, id) WHERE (transaction_id IS NOT NULL);

CREATE INDEX lots_to_spend ON public.lots USING btree (customer_id, expires_at, id) WHERE (remaining > 0);

CREATE TABLE members (
    account_id text NOT NULL,
    person_id text NOT NULL,
    role text NOT NULL,
    created_at bigint NOT NULL,
    last_seen_at bigint,
    CONSTRAINT members_pkey PRIMARY KEY (account_id, person_id),
    CONSTRAINT members_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
    CONSTRAINT members_person_id_fkey FOREIGN KEY (person_id) REFERENCES users(id),
    CONSTRAINT members_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'developer'::text, 'support'::text, 'viewer'::text])))
);

CREATE INDEX members_by_person ON public.members USING btree (person_id);

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

CREATE TABLE program_versions (
    account_id text NOT NULL,
    version bigint NOT NULL,
    schema bigint NOT NULL,
    rules text NOT NULL,
    tiers text DEFAULT '[]'::text NOT NULL,
    actor text NOT NULL,
    note text,
    created_at bigint NOT NULL,
    CONSTRAINT program_versions_pkey PRIMARY KEY (account_id, version),
    CONSTRAINT program_versions_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
    CONSTRAINT program_versions_version_check CHECK ((version > 0))
);

CREATE TABLE programs (
    account_id text NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT programs_pkey PRIMARY KEY (account_id),
    CONSTRAINT programs_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id)
);

CREATE TABLE recovery_codes (
    person_id text NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT recovery_codes_pkey PRIMARY KEY (person_id, digest),
    CONSTRAINT recovery_codes_person_id_fkey FOREIGN KEY (person_id) REFERENCES users(id)
);

CREATE TABLE redemptions (
    id text NOT NULL,
    account_id text NOT NULL,
    customer_id text NOT NULL,
    reward_id text,
    reward text,
    points bigint NOT NULL,
    points_returned bigint DEFAULT 0 NOT NULL,
    status text NOT NULL,
    transaction_id text,
    code text,
    external_id text,
    reserved_until bigint,
    captured_at bigint,
    ended_at bigint,
    actor text NOT NULL,
    created_at bigint NOT NULL,
    day bigint NOT NULL,
    CONSTRAINT redemptions_pkey PRIMARY KEY (id),
    CONSTRAINT redemptions_account_id_external_id_key UNIQUE (account_id, external_id),
    CONSTRAINT redemptions_check CHECK (((points_returned >= 0) AND (points_returned <= points))),
    CONSTRAINT redemptions_check1 CHECK (((status <> 'reserved'::text) OR ((reserved_until IS NOT NULL) AND (points_returned = 0)))),
    CONSTRAINT redemptions_check2 CHECK (((status <> 'redeemed'::text) OR (points_returned < points))),
    CONSTRAINT redemptions_check3 CHECK (((status <> ALL (ARRAY['reversed'::text, 'canceled'::text, 'expired'::text])) OR (points_returned = points))),
    CONSTRAINT redemptions_points_check CHECK ((points > 0)),
    CONSTRAINT redemptions_status_check CHECK ((status = ANY (ARRAY['reserved'::text, 'redeemed'::text, 'reversed'::text, 'canceled'::text, 'expired'::text])))
);

CREATE INDEX redemptions_by_account ON public.redemptions USING btree (account_id, id);

CREATE INDEX redemptions_by_code ON public.redemptions USING btree (account_id, code, id);

CREATE INDEX redemptions_by_customer ON public.redemptions USING btree (customer_id, id);

CREATE INDEX redemptions_by_transaction ON public.redemptions USING btree (transaction_id, id) WHERE (transaction_id IS NOT NULL);

CREATE INDEX redemptions_of_customer_reserved ON public.redemptions USING btree (customer_id, id) WHERE (status = 'reserved'::text);

CREATE INDEX redemptions_of_reward ON public.redemptions USING btree (customer_id, reward_id) WHERE (status = ANY (ARRAY['reserved'::text, 'redeemed'::text]));

CREATE INDEX redemptions_reserved ON public.redemptions USING btree (reserved_until, id) WHERE (status = 'reserved'::text);

CREATE TABLE refunds (
    id text NOT NULL,
    account_id text NOT NULL,
    transaction_id text NOT NULL,
    customer_id text NOT NULL,
    external_id text,
    fingerprint bytea NOT NULL,
    amount bigint NOT NULL,
    items text NOT NULL,
    reason text,
    actor text NOT NULL,
    points_clawed_back bigint NOT NULL,
    points_restored bigint NOT NULL,
    points_shortfall bigint NOT NULL,
    points_expired_before bigint NOT NULL,
    occurred_at bigint NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT refunds_pkey PRIMARY KEY (id),
    CONSTRAINT refunds_account_id_external_id_key UNIQUE (account_id, external_id),
    CONSTRAINT refunds_amount_check CHECK ((amount >= 0)),
    CONSTRAINT refunds_points_clawed_back_check CHECK ((points_clawed_back >= 0)),
    CONSTRAINT refunds_points_expired_before_check CHECK ((points_expired_before >= 0)),
    CONSTRAINT refunds_points_restored_check CHECK ((points_restored >= 0)),
    CONSTRAINT refunds_points_shortfall_check CHECK ((points_shortfall >= 0))
);

CREATE INDEX refunds_by_account ON public.refunds USING btree (account_id, id);

CREATE INDEX refunds_by_customer ON public.refunds USING btree (customer_id, id);

CREATE INDEX refunds_by_transaction ON public.refunds USING btree (transaction_id, id);

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

CREATE TABLE rewards (
    id text NOT NULL,
    account_id text NOT NULL,
    name text NOT NULL,
    type text NOT NULL,
    amount bigint,
    currency text,
    percent bigint,
    sku text,
    cost_points bigint NOT NULL,
    min_spend bigint,
    tier_ids text DEFAULT '[]'::text NOT NULL,
    tags text DEFAULT '[]'::text NOT NULL,
    stock bigint,
    limit_per_customer bigint,
    starts_at bigint,
    ends_at bigint,
    status text NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    CONSTRAINT rewards_pkey PRIMARY KEY (id),
    CONSTRAINT rewards_amount_check CHECK ((amount > 0)),
    CONSTRAINT rewards_check CHECK (((type = 'amount_off'::text) = ((amount IS NOT NULL) AND (currency IS NOT NULL)))),
    CONSTRAINT rewards_check1 CHECK (((type = 'percent_off'::text) = (percent IS NOT NULL))),
    CONSTRAINT rewards_check2 CHECK (((type = 'free_item'::text) = (sku IS NOT NULL))),
    CONSTRAINT rewards_check3 CHECK ((starts_at < ends_at)),
    CONSTRAINT rewards_cost_points_check CHECK ((cost_points > 0)),
    CONSTRAINT rewards_limit_per_customer_check CHECK ((limit_per_customer > 0)),
    CONSTRAINT rewards_min_spend_check CHECK ((min_spend >= 0)),
    CONSTRAINT rewards_percent_check CHECK (((percent >= 1) AND (percent <= 100))),
    CONSTRAINT rewards_status_check CHECK ((status = ANY (ARRAY['draft'::text, 'active'::text, 'archived'::text]))),
    CONSTRAINT rewards_stock_check CHECK ((stock >= 0)),
    CONSTRAINT rewards_type_check CHECK ((type = ANY (ARRAY['amount_off'::text, 'percent_off'::text, 'free_item'::text, 'custom'::text])))
);

CREATE INDEX rewards_by_account ON public.rewards USING btree (account_id, id);

CREATE TABLE schema_migrations (
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at bigint NOT NULL,
    compatible bigint DEFAULT 0 NOT NULL,
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (name)
);

CREATE TABLE second_factors (
    person_id text NOT NULL,
    sealed bytea NOT NULL,
    last_step bigint NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT second_factors_pkey PRIMARY KEY (person_id),
    CONSTRAINT second_factors_person_id_fkey FOREIGN KEY (person_id) REFERENCES users(id)
);

CREATE TABLE setup_codes (
    digest bytea NOT NULL,
    expires_at bigint NOT NULL,
    CONSTRAINT setup_codes_pkey PRIMARY KEY (digest)
);

CREATE TABLE sign_in_tries (
    key bytea NOT NULL,
    recent text NOT NULL,
    blocks bigint NOT NULL,
    blocked_until bigint NOT NULL,
    forget_at bigint NOT NULL,
    CONSTRAINT sign_in_tries_pkey PRIMARY KEY (key)
);

CREATE INDEX sign_in_tries_by_age ON public.sign_in_tries USING btree (forget_at);

CREATE TABLE tiers (
    id text NOT NULL,
    account_id text NOT NULL,
    name text NOT NULL,
    rank bigint NOT NULL,
    threshold bigint NOT NULL,
    multiplier_permille bigint DEFAULT 1000 NOT NULL,
    benefits text DEFAULT '[]'::text NOT NULL,
    created_at bigint NOT NULL,
    retired_at bigint,
    CONSTRAINT tiers_pkey PRIMARY KEY (id),
    CONSTRAINT tiers_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
    CONSTRAINT tiers_multiplier_permille_check CHECK ((multiplier_permille >= 0)),
    CONSTRAINT tiers_rank_check CHECK ((rank > 0)),
    CONSTRAINT tiers_threshold_check CHECK ((threshold >= 0))
);

CREATE INDEX tiers_by_account ON public.tiers USING btree (account_id, rank, id);

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
    tax_amount bigint DEFAULT 0 NOT NULL,
    shipping_amount bigint DEFAULT 0 NOT NULL,
    tip_amount bigint DEFAULT 0 NOT NULL,
    gift_card_amount bigint DEFAULT 0 NOT NULL,
    points_discount_amount bigint DEFAULT 0 NOT NULL,
    eligible_amount bigint DEFAULT 0 NOT NULL,
    base_amount bigint DEFAULT 0 NOT NULL,
    program_version bigint DEFAULT 1 NOT NULL,
    priced text,
    source text DEFAULT 'api'::text NOT NULL,
    payment_fingerprint bytea,
    device_id bytea,
    refunded_amount bigint DEFAULT 0 NOT NULL,
    points_clawed_back bigint DEFAULT 0 NOT NULL,
    points_restored bigint DEFAULT 0 NOT NULL,
    points_shortfall bigint DEFAULT 0 NOT NULL,
    CONSTRAINT transactions_pkey PRIMARY KEY (id),
    CONSTRAINT transactions_account_id_external_id_key UNIQUE (account_id, external_id),
    CONSTRAINT transactions_amount_check CHECK ((amount >= 0)),
    CONSTRAINT transactions_points_clawed_back_check CHECK ((points_clawed_back >= 0)),
    CONSTRAINT transactions_points_earned_check CHECK ((points_earned >= 0)),
    CONSTRAINT transactions_points_restored_check CHECK ((points_restored >= 0)),
    CONSTRAINT transactions_points_shortfall_check CHECK ((points_shortfall >= 0)),
    CONSTRAINT transactions_refunded_check CHECK (((refunded_amount >= 0) AND (refunded_amount <= amount))),
    CONSTRAINT transactions_status_check CHECK ((status = ANY (ARRAY['completed'::text, 'partially_refunded'::text, 'refunded'::text])))
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
    name text DEFAULT ''::text NOT NULL,
    time_zone text,
    theme text DEFAULT 'system'::text NOT NULL,
    shortcuts bigint DEFAULT 1 NOT NULL,
    has_second_factor bigint DEFAULT 0 NOT NULL,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id),
    CONSTRAINT users_has_second_factor_check CHECK ((has_second_factor = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT users_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'member'::text]))),
    CONSTRAINT users_shortcuts_check CHECK ((shortcuts = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT users_theme_check CHECK ((theme = ANY (ARRAY['system'::text, 'light'::text, 'dark'::text])))
);

CREATE UNIQUE INDEX users_by_email ON public.users USING btree (lower(email));

CREATE TRIGGER users_are_members AFTER INSERT ON public.users FOR EACH ROW EXECUTE FUNCTION make_member();

CREATE TABLE web_sessions (
    id text NOT NULL,
    digest bytea NOT NULL,
    person_id text NOT NULL,
    account_id text NOT NULL,
    created_at bigint NOT NULL,
    used_at bigint NOT NULL,
    proved_at bigint NOT NULL,
    awaits_code bigint NOT NULL,
    address text,
    user_agent text,
    CONSTRAINT web_sessions_pkey PRIMARY KEY (id),
    CONSTRAINT web_sessions_digest_key UNIQUE (digest),
    CONSTRAINT web_sessions_account_id_person_id_fkey FOREIGN KEY (account_id, person_id) REFERENCES members(account_id, person_id) ON DELETE CASCADE,
    CONSTRAINT web_sessions_awaits_code_check CHECK ((awaits_code = ANY (ARRAY[(0)::bigint, (1)::bigint])))
);

CREATE INDEX web_sessions_by_member ON public.web_sessions USING btree (account_id, person_id);

CREATE INDEX web_sessions_by_person ON public.web_sessions USING btree (person_id);

CREATE INDEX web_sessions_by_use ON public.web_sessions USING btree (used_at);

CREATE TABLE workers (
    id text NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    started_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    CONSTRAINT workers_pkey PRIMARY KEY (id)
);
