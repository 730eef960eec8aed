"""Settlements: what they write of a delivery and of its endpoint, and what they leave unchanged."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from loyalpro.delivery.attempt import OutcomeCode, Response, Timings
from loyalpro.delivery.breaker import HEALTHY, RAMP_S, after_failures
from loyalpro.delivery.claims import Claimed, ClaimRequest
from loyalpro.delivery.settlement import Attempt, Settled, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, SystemClock, UnixMs, VirtualClock
from loyalpro.kernel.ids import IdFactory, delivery_id, forged_delivery_id
from loyalpro.storage.connection import Connection, RetryTransaction
from loyalpro.storage.tables.claims import ClaimTables
from loyalpro.storage.tables.counters import HOUR_MS, CounterTables
from loyalpro.storage.tables.deliveries import DeliveryTables
from loyalpro.storage.tables.health import HealthTables
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.tables.settlements import SettlementTables
from loyalpro.webhooks.entities import Counts, DeliverySnapshot
from support.databases import Databases
from support.history import ACCOUNT, VAULT, History, query, transaction
from support.rivals import at_once, is_lock_awaited

_COLUMNS = (
    "account_id, endpoint_id, event_id, event_type, customer_id, sequence, created_at, uncounted_attempts, status, due_at,"
    " attempts, first_attempt_at, outcome, finished_at, fallback_status, fallback_due_at"
)
_RETRY_MS = 60_000


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
@pytest.mark.parametrize("status", [DeliveryStatus.SUCCEEDED, DeliveryStatus.EXHAUSTED, DeliveryStatus.PENDING])
def test_a_settlement_changes_only_the_outcome_columns_of_a_delivery(
    databases: Databases, store: str, status: DeliveryStatus
) -> None:
    now = SystemClock().now_ms()
    history = History(databases.fresh(store), now)
    endpoint, customer = history.endpoint(ordering="customer"), history.ids.new("cus")
    [event] = history.events(endpoint, 1, at=now - 1, status="pending", customer_id=customer, ordered=True)
    query(history.url, "UPDATE deliveries SET attempts = 3, uncounted_attempts = 1, first_attempt_at = 5")
    query(history.url, "UPDATE deliveries SET fallback_status = 'exhausted', fallback_due_at = 9")

    finished = status is not DeliveryStatus.PENDING
    _settle(history, endpoint, status, now, due_at=None if finished else now + _RETRY_MS)

    [row] = query(history.url, f"SELECT {_COLUMNS} FROM deliveries")
    before = (row[0], endpoint, event, "points.earned", customer, 1, now - 1, 1)
    after = (status, now - 1 if finished else now + _RETRY_MS, 4, 5, "http_5xx", now if finished else None, None, None)
    assert row == (*before, *after)
    assert query(history.url, "SELECT COUNT(*) FROM leases") == [(0,)]


def _settle(history: History, endpoint: str, status: DeliveryStatus, now: int, **moved: Any) -> None:
    with transaction(history.url) as connection:
        _settle_in(connection, endpoint, status, now, **moved)


def _settle_in(connection: Connection, endpoint: str, status: DeliveryStatus, now: int, **moved: Any) -> None:
    claimed = _claim_in(connection, now, endpoint)
    _end_in(connection, [_ended(each, now, status=status, **moved) for each in claimed], now)


def _claim_in(connection: Connection, now: int, *endpoints: str) -> Sequence[Claimed]:
    LeaseTables(connection).register("wrk_1", host="h", pid=1, now=now, ttl_ms=1)
    requests = [ClaimRequest(endpoint, 1) for endpoint in endpoints]
    return ClaimTables(connection, VAULT).claim("wrk_1", requests, now, 0).claimed


def _ended(claimed: Claimed, now: int, outcome: OutcomeCode = OutcomeCode.HTTP_5XX, **moved: Any) -> Settlement:
    attempt = Attempt(claimed.attempt_number, now, outcome, "", (), None, None, None)
    return replace(Settlement(claimed, DeliveryStatus.PENDING, now + 1, attempt), **moved)


def _end_in(connection: Connection, settlements: Sequence[Settlement], now: int) -> Settled:
    ids = IdFactory(VirtualClock(now), random.Random(1))
    return SettlementTables(connection, ids).settle("wrk_1", settlements, now, longest_probe_s=60)


def test_a_transaction_that_waits_for_a_delivery_which_is_being_settled_is_run_again(databases: Databases) -> None:
    """PostgreSQL moves the row to another partition, and to the waiting transaction it looks as if it were deleted."""
    now = SystemClock().now_ms()
    history = History(databases.fresh("postgres"), now)
    endpoint = history.endpoint()
    [event] = history.events(endpoint, 1, at=now - 1, status="pending")

    def locked_snapshot() -> object:
        with transaction(history.url) as connection:
            return DeliveryTables(connection).lock(ACCOUNT, delivery_id(event, endpoint))

    with ThreadPoolExecutor(1) as owner:
        with transaction(history.url) as connection:
            _settle_in(connection, endpoint, DeliveryStatus.SUCCEEDED, now, due_at=None)
            reading = owner.submit(locked_snapshot)
            _wait_until_a_transaction_waits(history.url)
        with pytest.raises(RetryTransaction):
            reading.result(30)
    assert isinstance(locked_snapshot(), DeliverySnapshot)


@pytest.fixture
def now() -> UnixMs:
    return SystemClock().now_ms()


def _claimed(history: History, endpoint: str) -> Claimed:
    """Return a delivery that the worker has leased."""
    history.events(endpoint, 1, at=history.now - 1, status="pending")
    with transaction(history.url) as connection:
        [claimed] = _claim_in(connection, history.now, endpoint)
    return claimed


def _change_url(connection: Connection, endpoint: str, now: UnixMs) -> None:
    """Give the endpoint another URL, as its owner may."""
    connection.execute("UPDATE endpoints SET url = 'https://new.example.com/hook' WHERE id = ?", (endpoint,))
    HealthTables(connection, IdFactory(VirtualClock(now), random.Random(2))).forget(endpoint, now, recovering=False)


@pytest.mark.parametrize("gone", [True, False])
def test_a_failure_at_an_earlier_url_does_not_count_against_the_new_one(
    database_url: str, now: UnixMs, *, gone: bool
) -> None:
    history = History(database_url, now)
    endpoint = history.endpoint()
    claimed = _claimed(history, endpoint)
    with transaction(history.url) as connection:
        _change_url(connection, endpoint, now)
        settled = _end_in(connection, [_ended(claimed, now, gone=gone)], now)
    assert settled == Settled(frozenset([claimed.delivery_id]), {endpoint: HEALTHY}, [])
    assert query(history.url, "SELECT status FROM endpoints") == [("enabled",)]
    assert query(history.url, "SELECT * FROM endpoint_health") == []
    assert query(history.url, "SELECT status, attempts FROM deliveries") == [("pending", 1)]


def test_a_success_at_an_earlier_url_does_not_close_the_breaker_of_the_new_one(database_url: str, now: UnixMs) -> None:
    history = History(database_url, now)
    endpoint = history.endpoint()
    claimed = replace(_claimed(history, endpoint), probe=True)
    opened = after_failures(HEALTHY, now, count=5, probed=False, hold_ms=None, longest_probe_s=60).health
    stale = replace(claimed, target=replace(claimed.target, url="https://old.example.com/hook", health=opened))
    query(history.url, "INSERT INTO endpoint_health VALUES (?, 5, ?, 1, ?, NULL, 0)", endpoint, now, opened.probe_at)
    with transaction(history.url) as connection:
        settled = _end_in(connection, [_ended(stale, now, OutcomeCode.SUCCEEDED)], now)
    assert settled.health == {endpoint: opened}


@pytest.mark.parametrize("gone", [True, False])
def test_an_attempt_that_is_settled_while_the_url_changes_counts_for_neither_url(
    databases: Databases, now: UnixMs, *, gone: bool
) -> None:
    history = History(databases.fresh("postgres"), now)
    endpoint = history.endpoint()
    ended = _ended(_claimed(history, endpoint), now, gone=gone)

    def settle() -> None:
        with transaction(history.url) as connection:
            _end_in(connection, [ended], now)

    with ThreadPoolExecutor(1) as worker:
        with transaction(history.url) as connection:
            _change_url(connection, endpoint, now)
            settling = worker.submit(settle)
            _wait_until_a_transaction_waits(history.url)
        settling.result(30)
    assert query(history.url, "SELECT status FROM endpoints") == [("enabled",)]
    assert query(history.url, "SELECT * FROM endpoint_health") == []


def test_a_change_of_the_url_resets_a_first_failure_that_is_being_settled(databases: Databases, now: UnixMs) -> None:
    history = History(databases.fresh("postgres"), now)
    endpoint = history.endpoint()
    ended = _ended(_claimed(history, endpoint), now)

    def change_url() -> None:
        with transaction(history.url) as connection:
            _change_url(connection, endpoint, now)

    with ThreadPoolExecutor(1) as owner:
        with transaction(history.url) as connection:
            _end_in(connection, [ended], now)
            changing = owner.submit(change_url)
            _wait_until_a_transaction_waits(history.url)
        changing.result(30)
    assert query(history.url, "SELECT * FROM endpoint_health") == []


def _wait_until_a_transaction_waits(url: str) -> None:
    deadline_s = time.monotonic() + 30
    while not is_lock_awaited(url):
        assert time.monotonic() < deadline_s, "no transaction waits for the row"


@pytest.mark.parametrize("settled_first", [True, False])
def test_the_next_delivery_of_a_customer_is_due_when_two_before_it_are_finished_at_once(
    databases: Databases, *, settled_first: bool
) -> None:
    now = SystemClock().now_ms()
    history = History(databases.fresh("postgres"), now)
    endpoint, customer = history.endpoint(ordering="customer"), history.ids.new("cus")
    _, second, _ = history.events(endpoint, 3, at=now - 9, status="pending", customer_id=customer, ordered=True)
    query(history.url, "UPDATE deliveries SET due_at = ? WHERE id = ?", now - 9, delivery_id(second, endpoint))
    with transaction(history.url) as connection:
        [claimed] = _claim_in(connection, now, endpoint)

    def settle(connection: Connection) -> None:
        _end_in(connection, [_ended(claimed, now, status=DeliveryStatus.SUCCEEDED, due_at=None)], now)

    def cancel(connection: Connection) -> None:
        standing = DeliveryTables(connection).lock(ACCOUNT, delivery_id(second, endpoint))
        assert standing is not None
        DeliveryTables(connection).cancel(standing, now)

    at_once(history.url, *((settle, cancel) if settled_first else (cancel, settle)))
    rows = query(history.url, "SELECT status, due_at FROM deliveries ORDER BY sequence")
    assert rows == [("succeeded", now - 9), ("canceled", now - 9), ("pending", now)]


_FAILING = "INSERT INTO endpoint_health VALUES (?, 5, 1, 1, 1, NULL, 0)"


@pytest.mark.parametrize("act", ["settle", "probe"])
def test_workers_lock_the_health_of_endpoints_in_the_same_order(databases: Databases, now: UnixMs, act: str) -> None:
    """Otherwise two workers could wait for each other, and the database would have to abort one of them."""
    history = History(databases.fresh("postgres"), now)
    first, second = sorted(history.endpoint() for _ in range(2))
    for number, endpoint in enumerate([second, first]):
        history.events(endpoint, 2, at=now - 10 + number, status="pending")
    with transaction(history.url) as connection:
        claimed = _claim_in(connection, now, second, first) if act == "settle" else []
        for endpoint in (first, second):
            connection.execute(_FAILING, (endpoint,))

    def work() -> None:
        with transaction(history.url) as connection:
            if act == "settle":
                _end_in(connection, [_ended(each, now) for each in claimed], now)
            else:
                assert len(_claim_in(connection, now, second, first)) == 2

    with ThreadPoolExecutor(1) as worker:
        with transaction(history.url) as connection:
            connection.execute("SELECT 1 FROM endpoint_health WHERE endpoint_id = ? FOR UPDATE", (first,))
            working = worker.submit(work)
            _wait_until_a_transaction_waits(history.url)
            free = "SELECT endpoint_id FROM endpoint_health FOR UPDATE SKIP LOCKED"
            assert query(history.url, free) == [(second,)]
        working.result(30)


def test_an_endpoint_that_has_recovered_is_healthy_at_its_next_success(database_url: str, now: UnixMs) -> None:
    """Its health row is deleted, so later settlements need no lock on it."""
    history = History(database_url, now)
    endpoint = history.endpoint()
    recovered = (
        "INSERT INTO endpoint_health (endpoint_id, failures, probes, recovered_at, warned_days) VALUES (?, 0, 0, ?, 0)"
    )
    query(history.url, recovered, endpoint, now - round(RAMP_S * MS_PER_S))
    ended = _ended(_claimed(history, endpoint), now, OutcomeCode.SUCCEEDED)
    with transaction(history.url) as connection:
        settled = _end_in(connection, [ended], now)
    assert settled.health == {endpoint: HEALTHY}
    assert query(history.url, "SELECT * FROM endpoint_health") == []


# -- counters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_each_attempt_is_counted_once_whatever_becomes_of_its_counts(databases: Databases, store: str) -> None:
    now = SystemClock().now_ms() // MS_PER_DAY * MS_PER_DAY
    history = History(databases.fresh(store), now)
    endpoints = [history.endpoint() for _ in range(3)]
    for n, endpoint in enumerate(endpoints):
        history.events(endpoint, 20 * (n + 1), at=now - 1, status="pending")
    outcomes = [OutcomeCode.SUCCEEDED, OutcomeCode.HTTP_5XX, OutcomeCode.TIMEOUT]
    with transaction(history.url) as connection:
        LeaseTables(connection).register("wrk_1", host="h", pid=1, now=now, ttl_ms=1)
        for n in range(20):
            at = now + n * 17 * 60 * MS_PER_S
            requests = [ClaimRequest(endpoint, count) for count, endpoint in enumerate(endpoints, 1)]
            claimed = ClaimTables(connection, VAULT).claim("wrk_1", requests, at, 0).claimed
            _end_in(connection, [_answered(each, at, outcomes[m % 3], m) for m, each in enumerate(claimed)], at)

    before = _counts(history)
    assert before == dict(
        query(
            history.url,
            "SELECT d.endpoint_id || a.outcome, COUNT(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id GROUP BY 1",
        )
    )
    days = [_counted_days(history, now, endpoint) for endpoint in endpoints]
    for later, spans in ((1, 2), (100, 1)):
        with transaction(history.url) as connection:
            while CounterTables(connection).lengthen_oldest(now + later * MS_PER_DAY):
                pass
        assert _counts(history) == before
        assert [_counted_days(history, now, endpoint) for endpoint in endpoints] == days
        assert query(history.url, "SELECT COUNT(DISTINCT span_ms), MIN(span_ms) FROM delivery_counters")[0] == (
            (1, HOUR_MS) if spans > 1 else (1, MS_PER_DAY)
        )
    with transaction(history.url) as connection:
        while CounterTables(connection).lengthen_oldest(now + 500 * MS_PER_DAY):
            pass
    assert _counts(history) == {}


def _answered(claimed: Claimed, now: UnixMs, outcome: OutcomeCode, n: int) -> Settlement:
    status = DeliveryStatus.SUCCEEDED if outcome is OutcomeCode.SUCCEEDED else DeliveryStatus.PENDING
    response = None if outcome is OutcomeCode.TIMEOUT else Response(200 + n, (), b"", truncated=False)
    timings = Timings(None, None, None, None, float(n))
    attempt = Attempt(claimed.attempt_number, now, outcome, "", (), response, None, timings)
    return Settlement(claimed, status, None if status is DeliveryStatus.SUCCEEDED else now, attempt)


def _counts(history: History) -> dict[str, int]:
    rows = query(
        history.url, "SELECT endpoint_id || outcome, CAST(SUM(attempts) AS BIGINT) FROM delivery_counters GROUP BY 1"
    )
    return dict(rows)


def _counted_days(history: History, since: UnixMs, endpoint: str) -> list[Counts]:
    with transaction(history.url) as connection:
        found = CounterTables(connection).of_endpoint(endpoint, since, MS_PER_DAY)
    return sorted(found, key=lambda each: (each.start_at, each.outcome, each.response_status, each.bucket))


def test_a_forged_delivery_is_not_counted(databases: Databases, now: UnixMs) -> None:
    history = History(databases.fresh("sqlite"), now)
    endpoint = history.endpoint()
    claimed = _claimed(history, endpoint)
    forged = replace(claimed, delivery_id=forged_delivery_id(claimed.event_id, endpoint))
    query(history.url, f"UPDATE leases SET delivery_id = '{forged.delivery_id}'")
    with transaction(history.url) as connection:
        assert _end_in(connection, [_ended(forged, now)], now).held == {forged.delivery_id}
    assert _counts(history) == {}
