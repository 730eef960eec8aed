"""No statement that runs regularly scans a whole table, also when the database has a long history."""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any, TypeVar

import pytest
from psycopg.sql import Literal

from loyalpro.accounts.entities import ApiKey, AuditEntry, Invitation, Person, StoredResponse, WebSession
from loyalpro.accounts.sign_in_limits import key_of
from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.claims import ClaimKind, ClaimRequest
from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.jobs.periodic_job import BATCH_SIZE, Piece
from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs, VirtualClock
from loyalpro.kernel.errors import Conflict
from loyalpro.kernel.ids import IdFactory, delivery_id, floor
from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.loyalty.adjustments import AdjustPoints, adjust_points
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.calculation import CalculatePurchase, calculate_purchase
from loyalpro.loyalty.campaigns import CampaignRef, CreateCampaign, archive_campaign, create_campaign
from loyalpro.loyalty.churn.entities import ChurnModel, ChurnRun
from loyalpro.loyalty.churn.levels import Level
from loyalpro.loyalty.customer_export import SECTIONS, ReadExport, exported_customers, read_export
from loyalpro.loyalty.customer_overview import get_customer_overview
from loyalpro.loyalty.customer_search import FindCustomers, find_customers
from loyalpro.loyalty.customers import (
    EnrollCustomer,
    EnrollCustomers,
    GetCustomer,
    ListCustomers,
    ListOfCustomer,
    UpdateCustomer,
    enroll_customer,
    enroll_customers,
    list_customers,
    update_customer,
)
from loyalpro.loyalty.deletion import DeleteCustomer, delete_customer
from loyalpro.loyalty.entities import Customer, CustomerFilter, Erasure, Job
from loyalpro.loyalty.erasure import erase_next
from loyalpro.loyalty.fraud.cases import closed, hash_of_key, opened
from loyalpro.loyalty.fraud.judgment import Finding, Measurement
from loyalpro.loyalty.fraud.measure import SeenCustomer, Sighting
from loyalpro.loyalty.fraud.rules import VelocityEarn, default_rule
from loyalpro.loyalty.merging import MergeCustomer, merge_customer
from loyalpro.loyalty.orders import Order
from loyalpro.loyalty.pending_lots import ChangeLot, activate_lot
from loyalpro.loyalty.recent import customers_with_tail, purchases_with_tail
from loyalpro.loyalty.recording import Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.redemption_book import PutBack, expire_overdue, linked_redemptions, named_redemptions
from loyalpro.loyalty.redemptions import (
    CaptureRedemption,
    ExpireReservations,
    MadeRedemption,
    RedeemPoints,
    RedemptionRef,
    ReverseRedemption,
    cancel_redemption,
    capture_redemption,
    expire_reservations,
    redeem_points,
    reverse_redemption,
)
from loyalpro.loyalty.refunds import NewRefund, Refunded, RefundPurchases, refund_purchases
from loyalpro.loyalty.rewards import NewReward, RewardRef, create_reward, get_reward, offers
from loyalpro.loyalty.statement import GetStatement, get_statement
from loyalpro.loyalty.sweeps.churn_run import begin_run, score_next
from loyalpro.loyalty.sweeps.reservations import find_overdue
from loyalpro.loyalty.sweeps.retier import retier_next
from loyalpro.loyalty.sweeps.settling import find_due, settle
from loyalpro.loyalty.sweeps.sweep import Change, Find
from loyalpro.loyalty.sweeps.tier_review import find_to_review, review
from loyalpro.storage.connection import Connection, DriverConnection, Row, Statement
from loyalpro.storage.dialect import Dialect
from loyalpro.storage.postgres.connection import numbered
from loyalpro.storage.tables.claims import ClaimTables
from loyalpro.storage.tables.counters import HOUR_MS, MINUTE_MS, CounterTables
from loyalpro.storage.tables.counts import PAGE, CountTables
from loyalpro.storage.tables.deliveries import DeliveryTables
from loyalpro.storage.tables.events import EventTables
from loyalpro.storage.tables.idempotency import IdempotencyTables
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.tables.ledger_check import MOST_CUSTOMERS as PAGE_OF_LEDGERS
from loyalpro.storage.tables.ledger_check import LogTables
from loyalpro.storage.tables.maintenance import MaintenanceTables
from loyalpro.storage.tables.retention import Aging, RetentionTables
from loyalpro.storage.tables.settlements import SettlementTables
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.webhooks.deliveries import MOST_EXAMINED, ListDeliveries, count_newer, find_deliveries
from loyalpro.webhooks.entities import DeliveryFilter, Reached, Replay, ReplayPage
from loyalpro.webhooks.entry_events import EntryEvents, events_of_entries
from loyalpro.webhooks.event_log import FindEvents, find_events
from loyalpro.webhooks.recent import deliveries_with_tail, events_with_tail
from loyalpro.webhooks.test_events import SendTestEvent, send_test_event
from loyalpro.webhooks.url_check import EndpointsWithUrl, check_registered
from support.campaigns import new_campaign
from support.customer_rows import OTHER_TABLES, plant_for_all
from support.customers import purchase
from support.databases import Databases
from support.history import ACCOUNT, VAULT, History, connect, query, transaction
from support.units import unit_on

T = TypeVar("T")
_OLD: tuple[Aging, ...] = ("attempts", "deliveries", "events")
DELIVERED = 50_000
PENDING_PER_ENDPOINT = 12_500
BODY = b'{"data":"%s"}' % (b"x" * 600)
BATCH = 64
PURCHASES = 20_000
"""How many purchases the history has, each with a refund."""
LARGE_TABLES = re.compile(
    r"^(events|attempts|deliveries|delivery_counters|customers|transactions|ledger_entries|lots|idempotency_keys|audit_log"
    r"|api_keys|allocations|adjustments|redemptions|refunds|fraud_cases|held_lots|identity_values"
    r"|customer_days|customer_tags|campaign_uses|churn_scores|churn_runs|jobs|job_pieces"
    r"|users|members|web_sessions|invitations|sign_in_tries|recovery_codes|second_factors)"
)
_PARAMETER_TYPES = {int: "bigint", bytes: "bytea"}
"""The types that the driver declares; it leaves the others to the server."""
_RARE = {DeliveryStatus.CANCELED, DeliveryStatus.EXHAUSTED}
"""What no delivery of the history is, and what has an index of its own."""
SMALL_INDEXES = tuple(
    f"USING INDEX {name}" for name in ("deliveries_by_hand", "jobs_unfinished", "churn_runs_unfinished")
)
"""Partial indexes of deliveries that are sent manually, and of unfinished jobs and runs. Their statements scan all of them."""


@dataclass
class PlanCheckingConnection:
    """A connection that checks the plan of each statement before it runs the statement."""

    inner: Connection
    max_rows_read: int
    checked: int = 0

    @property
    def dialect(self) -> Dialect:
        return self.inner.dialect

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        self._check_statement(sql, params)
        return self.inner.execute(sql, params)

    def execute_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        return [self.execute(sql, params) for sql, params in statements]

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        for row in rows[:1]:
            self._check_statement(sql, row)
        self.inner.execute_many(sql, rows)

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        self._check_statement(sql, params)
        return self.inner.change(sql, params)

    def run_script(self, sql: str) -> None:
        self.inner.run_script(sql)

    def _check_statement(self, sql: str, params: Sequence[object]) -> None:
        self.checked += 1
        if sql.split(maxsplit=1)[0] in ("SET", "LOCK"):
            return
        if self.dialect.is_postgres:
            _check_postgres(self.inner, sql, params, self.max_rows_read)
        else:
            _check_sqlite(self.inner, sql, params)


@dataclass(frozen=True)
class World:
    """A database with a history, and the ids of some of its rows."""

    url: str
    now: UnixMs
    history: History
    endpoints: list[str]
    customer: str
    last_event: str


@pytest.fixture(
    scope="module", params=["sqlite", "postgres", "postgres with old statistics", "postgres without statistics"]
)
def world(request: pytest.FixtureRequest, databases: Databases) -> World:
    """50,000 delivered events of the last two weeks, 50,400 pending ones of four unordered endpoints and an ordered one, and
    20,000 purchases.
    """
    now = SystemClock().now_ms()
    store, _, statistics = request.param.partition(" ")
    history = History(databases.fresh(store), now)
    customer = history.ids.new("cus")
    endpoints = [history.endpoint() for _ in range(4)] + [history.endpoint(ordering="customer")]
    if statistics:
        _stop_autovacuum(history.url)
    if statistics == "with old statistics":
        history.events(history.endpoint(), 3, at=now - 2_000, status="pending")
        history.purchases(3)
        history.refunds(3)
        query(history.url, "ANALYZE")
        query(history.url, "DELETE FROM deliveries")
    history.purchases(PURCHASES)
    history.refunds(PURCHASES)
    for n, endpoint in enumerate(endpoints):
        for days in (12, 6, 1):
            history.events(endpoint, DELIVERED // 15, at=now - days * MS_PER_DAY, body=lambda _: BODY)
        ordered = n == 4
        last = history.events(
            *(endpoint, 400 if ordered else PENDING_PER_ENDPOINT),
            at=now - 1_000,
            status="pending",
            customer_id=customer if ordered else None,
            ordered=ordered,
        )
    if store == "postgres" and not statistics:  # as its autovacuum does; LoyalPro never runs ANALYZE on SQLite
        query(history.url, "ANALYZE")
    return World(history.url, now, history, endpoints, customer, last[0])


def _stop_autovacuum(url: str) -> None:
    """Keep autovacuum from analyzing any table, as on a server on which it has not come to the tables yet."""
    tables = query(
        url,
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace",
    )
    for (table,) in tables:
        query(url, f"ALTER TABLE {table} SET (autovacuum_enabled = off)")


@pytest.fixture
def connection(world: World) -> Iterator[DriverConnection]:
    """A connection in a transaction that is rolled back."""
    opened = connect(world.url)
    opened.begin()
    for worker in ("wrk_1", "wrk_2"):
        LeaseTables(opened).register(worker, host="h", pid=1, now=0, ttl_ms=1)
    yield opened
    opened.rollback()
    opened.close()


# -- reading plans ---------------------------------------------------------------------------------------------------


def _check_sqlite(connection: Connection, sql: str, params: Sequence[object]) -> None:
    names = _aliases(sql)
    for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {sql}", params):
        found = re.match(r"SCAN (\w+)", detail)
        if found and LARGE_TABLES.match(names.get(found.group(1), found.group(1))):
            assert detail.endswith(SMALL_INDEXES), f"{detail}\n{sql}"


def _aliases(sql: str) -> dict[str, str]:
    """The tables of the aliases in a statement."""
    return {alias: table for table, alias in re.findall(r"(?:FROM|JOIN|INTO|UPDATE)\s+(\w+)\s+(?:AS\s+)?(\w+)", sql)}


def _check_postgres(connection: Connection, sql: str, params: Sequence[object], max_rows_read: int) -> None:
    """Check the plan for these values, and the generic plan that a prepared statement gets after some executions."""
    explain = "EXPLAIN (ANALYZE, FORMAT JSON)"
    for setting, prepared in (("force_custom_plan", f"{explain} {sql}"), ("force_generic_plan", "")):
        connection.execute("SAVEPOINT explain")
        connection.execute(f"SET LOCAL plan_cache_mode = {setting}")
        if prepared:
            [(answer,)] = connection.execute(prepared, params)
        else:
            types = ", ".join(_PARAMETER_TYPES.get(type(value), "unknown") for value in params)
            connection.execute(f"PREPARE explained {f'({types})' if params else ''} AS {numbered(sql)}")
            values = ", ".join(Literal(value).as_string() for value in params)
            [(answer,)] = connection.execute(f"{explain} EXECUTE explained{f'({values})' if params else ''}")
            connection.execute("DEALLOCATE explained")
        connection.execute("ROLLBACK TO SAVEPOINT explain")
        _check_plan(connection, answer if isinstance(answer, list) else json.loads(answer), sql, max_rows_read)


def _check_plan(connection: Connection, plan: Any, sql: str, max_rows_read: int) -> None:
    nodes = list(_nodes(plan[0]["Plan"]))
    for node in nodes:
        if node["Node Type"] == "Seq Scan" and LARGE_TABLES.match(node["Relation Name"]):
            assert _pages(connection, node["Relation Name"]) <= 1, f"{node}\n{sql}"
    read = sum(_rows_read(node) for node in nodes if LARGE_TABLES.match(node.get("Relation Name", "")))
    assert read <= max_rows_read, f"{read} rows of {max_rows_read}\n{json.dumps(plan, indent=1)}\n{sql}"


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _rows_read(node: dict[str, Any]) -> float:
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float(node["Actual Loops"] * (node["Actual Rows"] + removed)) if "Scan" in node["Node Type"] else 0.0


def _pages(connection: Connection, relation: str) -> int:
    [(pages,)] = connection.execute("SELECT pg_relation_size(?::regclass) / 8192", (relation,))
    return int(pages)


def explained(connection: DriverConnection, max_rows_read: int, use: Callable[[Connection], T]) -> T:
    """Run `use`, and check the plans of all its statements."""
    checking = PlanCheckingConnection(connection, max_rows_read)
    result = use(checking)
    assert checking.checked
    return result


# -- the statements that run regularly ----------------------------------------------------------------------------


def test_the_check_finds_a_scan_of_a_whole_table(connection: DriverConnection) -> None:
    sql = "SELECT COUNT(*) FROM deliveries d WHERE d.created_at > 0"
    with pytest.raises(AssertionError):
        explained(connection, 10**9, lambda c: c.execute(sql))


def test_the_backlog_scan(world: World, connection: DriverConnection) -> None:
    now = world.now
    page = explained(connection, 4 * BATCH, lambda c: ClaimTables(c, VAULT).scan_backlog(now, "", now - MS_PER_DAY))
    assert {each.target.endpoint_id for each in page.endpoints} == set(world.endpoints)


@pytest.mark.parametrize("kind", [ClaimKind.DUE, ClaimKind.URGENT])
def test_claiming(world: World, connection: DriverConnection, kind: ClaimKind) -> None:
    requests = [ClaimRequest(endpoint, BATCH, kind) for endpoint in world.endpoints[:4]]
    result = explained(connection, 4 * BATCH, lambda c: ClaimTables(c, VAULT).claim("wrk_1", requests, world.now, 0))
    assert len(result.claimed) == (4 * BATCH if kind is ClaimKind.DUE else 0)


def test_claiming_in_order(world: World, connection: DriverConnection) -> None:
    requests = [ClaimRequest(world.endpoints[4], BATCH)]
    result = explained(connection, 8, lambda c: ClaimTables(c, VAULT).claim("wrk_1", requests, world.now, 0))
    assert len(result.claimed) == 1


def test_settling(world: World, connection: DriverConnection) -> None:
    now = world.now
    requests = [ClaimRequest(endpoint, BATCH) for endpoint in world.endpoints]
    result = ClaimTables(connection, VAULT).claim("wrk_1", requests, now, 0)
    settlements = [
        Settlement(each, DeliveryStatus.SUCCEEDED, now,
                   Attempt(1, now, OutcomeCode.SUCCEEDED, "", (), None, None, None))
        for each in result.claimed
    ]  # fmt: skip
    ids = IdFactory(VirtualClock(now), random.Random(1))

    def settle(recorder: Connection) -> Any:
        return SettlementTables(recorder, ids).settle("wrk_1", settlements, now, longest_probe_s=60)

    settled = explained(connection, 4 * len(settlements), settle)
    assert len(settled.held) == len(settlements) > 4 * BATCH


def test_releasing_the_leases_of_dead_workers(world: World, connection: DriverConnection) -> None:
    requests = [ClaimRequest(world.endpoints[0], BATCH)]
    ClaimTables(connection, VAULT).claim("wrk_1", requests, world.now, 0)
    explained(connection, 4 * BATCH, lambda c: LeaseTables(c).release("wrk_1", world.now))
    ClaimTables(connection, VAULT).claim("wrk_2", requests, world.now, 0)
    connection.execute("DELETE FROM workers")
    assert explained(connection, 4 * BATCH, lambda c: LeaseTables(c).rescue_orphaned_leases(world.now))


@pytest.mark.parametrize("from_start", [True, False])
@pytest.mark.parametrize("wanted", [None, "points.earned"])
def test_polling_events(world: World, connection: DriverConnection, wanted: str | None, *, from_start: bool) -> None:
    after = None if from_start else world.last_event
    found = explained(connection, 400, lambda c: EventTables(c).list_after(ACCOUNT, after, 100, event_type=wanted))
    assert len(found) == 100


def test_polling_the_events_of_one_customer(world: World, connection: DriverConnection) -> None:
    found = explained(
        connection,
        4 * 400,
        lambda c: EventTables(c).list_after(ACCOUNT, world.last_event, 100, customer_id=world.customer),
    )
    assert len(found) == 100


@pytest.mark.parametrize(
    "wanted",
    [{}, {"endpoint_id"}, {"event_id"}, {"customer_id"}, {"since"}, {"outcome"}, {"type"},
     *({each} for each in DeliveryStatus), {"endpoint_id", DeliveryStatus.PENDING}, {"endpoint_id", "outcome"}],
)  # fmt: skip
def test_searching_deliveries(world: World, connection: DriverConnection, wanted: set[str]) -> None:
    """A search examines a limited number of deliveries, also when nothing matches."""
    query = ListDeliveries(
        ACCOUNT,
        None,
        BATCH,
        endpoint_id=world.endpoints[3] if "endpoint_id" in wanted else None,
        event_id=world.last_event if "event_id" in wanted else None,
        event_type="churn.risk" if "type" in wanted else None,
        customer_id=world.customer if "customer_id" in wanted else None,
        outcome="gone" if "outcome" in wanted else None,
        since=world.now - 2_000 if "since" in wanted else None,
        status=next((each for each in DeliveryStatus if each in wanted), None),
    )
    read = 40 * BATCH + 2 * MOST_EXAMINED
    found = in_unit(connection, read, lambda unit: find_deliveries(unit, query))
    in_unit(connection, read, lambda unit: count_newer(unit, query, delivery_id(world.last_event, "0" * 10)))
    if not found.deliveries:
        assert wanted & {"outcome", "type", *DeliveryStatus}
        assert (found.looked_back_to is None) == bool(wanted & _RARE)
        return
    assert len(found.deliveries) == (1 if "event_id" in wanted else BATCH)
    last = replace(query, before_id=found.deliveries[-1].id)
    in_unit(connection, read, lambda unit: find_deliveries(unit, last))
    delivery = found.deliveries[0]
    explained(connection, 10, lambda c: DeliveryTables(c).get(ACCOUNT, delivery.id))
    explained(connection, 10, lambda c: DeliveryTables(c).attempts(delivery.id))


@pytest.mark.parametrize("wanted", [{}, {"type"}, {"customer_id"}, {"type", "customer_id"}])
def test_searching_events(world: World, connection: DriverConnection, wanted: set[str]) -> None:
    query = FindEvents(
        ACCOUNT,
        None,
        BATCH,
        event_type="churn.risk" if "type" in wanted else None,
        customer_id=world.customer if "customer_id" in wanted else None,
    )
    found = in_unit(connection, 3 * MOST_EXAMINED, lambda unit: find_events(unit, query))
    if "type" in wanted:
        assert not found.events
        assert (found.looked_back_to is None) == ("customer_id" in wanted)
        return
    assert len(found.events) == BATCH
    older = replace(query, before_id=found.next_before_id)
    assert len(in_unit(connection, 3 * MOST_EXAMINED, lambda unit: find_events(unit, older)).events) == BATCH
    event = found.events[-1]
    explained(connection, 40, lambda c: EventTables(c).around(ACCOUNT, event.id, world.customer, 3))


def test_what_a_page_of_deliveries_shows(world: World, connection: DriverConnection) -> None:
    rows = connection.execute("SELECT id FROM events ORDER BY id LIMIT ?", (50,))
    events = [id_ for (id_,) in rows]
    found = explained(connection, 200, lambda c: EventTables(c).customers_of(ACCOUNT, events))
    assert set(found) == set(events)
    shown = [
        DeliveryTables(connection).list_before(ACCOUNT, None, 1, DeliveryFilter(event_id=each))[0] for each in events
    ]
    attempts = explained(connection, 200, lambda c: DeliveryTables(c).last_attempts(shown))
    assert [attempts[each.id].response_status for each in shown] == [200] * len(events)
    assert explained(connection, 100, lambda c: DeliveryTables(c).count_exhausted(ACCOUNT, 50)) == 0


@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_events_have_reached(world: World, connection: DriverConnection, size: int) -> None:
    rows = connection.execute("SELECT id FROM events ORDER BY id LIMIT ?", (size,))
    found = explained(connection, 4 * size, lambda c: DeliveryTables(c).reached(ACCOUNT, [id_ for (id_,) in rows]))
    assert list(found.values()) == [Reached(1, 1)] * size


def test_the_periodic_jobs(world: World, connection: DriverConnection) -> None:
    now = world.now
    ids = IdFactory(VirtualClock(now), random.Random(1))
    explained(
        connection, 2 * BATCH_SIZE, lambda c: MaintenanceTables(c).close_windows(now, now - MS_PER_DAY, BATCH_SIZE)
    )
    assert not explained(connection, 10, lambda c: MaintenanceTables(c).cancel_of_deleted_endpoint(now, BATCH_SIZE))
    connection.execute(
        "UPDATE endpoints SET deleted_at = 1 WHERE id IN (?, ?)", (world.endpoints[3], world.endpoints[4])
    )
    assert explained(
        connection, 4 * BATCH_SIZE, lambda c: MaintenanceTables(c).cancel_of_deleted_endpoint(now, BATCH_SIZE)
    )
    explained(connection, 2 * BATCH_SIZE, lambda c: RetentionTables(c).expire_unsent(now - 30 * MS_PER_DAY, now, ids))


@pytest.fixture
def counted(world: World, connection: DriverConnection) -> UnixMs:
    """The time of 20,000 rows of counters, of 3 hours of minutes and of 60 days of hours, in the transaction of the test."""
    hour = world.now - world.now % HOUR_MS
    places = [(MINUTE_MS, hour - n * MINUTE_MS) for n in range(180)]
    places += [(HOUR_MS, hour - n * HOUR_MS) for n in range(3, 24 * 60)]
    connection.execute_many(
        f"INSERT INTO delivery_counters VALUES (?, ?, ?, 1, 'succeeded', 0, ?, 3, {world.now})",
        [(endpoint, *place, 30 + m) for endpoint in world.endpoints[:3] for place in places for m in range(4)],
    )
    return world.now


def test_reading_counters(world: World, connection: DriverConnection, counted: UnixMs) -> None:
    ids = world.endpoints
    found = explained(
        connection, 4 * 180 + 90, lambda c: CounterTables(c).of_endpoint(ids[0], counted - MS_PER_DAY, HOUR_MS)
    )
    assert sum(each.attempts for each in found) >= 3 * 4 * (180 + 20)
    assert explained(connection, 3 * (4 * 180 + 90), lambda c: CounterTables(c).by_hour(ids, counted - MS_PER_DAY))


def test_the_page_of_an_endpoint(world: World, connection: DriverConnection, counted: UnixMs) -> None:
    ids = world.endpoints
    assert explained(connection, 4 * BATCH, lambda c: DeliveryTables(c).oldest_waiting(ids[0], BATCH)) is not None
    assert explained(connection, 4 * 500, lambda c: DeliveryTables(c).oldest_waiting(ids[4], BATCH)) is not None
    assert explained(connection, 10, lambda c: DeliveryTables(c).given_up(ids[0], 0, BATCH)) == 0
    assert explained(connection, 20, lambda c: CounterTables(c).last_before(ids)) == dict.fromkeys(ids[:3], counted)


def test_moving_counters(connection: DriverConnection, counted: UnixMs) -> None:
    assert explained(connection, 4 * 60 + 8, lambda c: CounterTables(c).lengthen_oldest(counted + HOUR_MS))
    connection.execute("DELETE FROM delivery_counters WHERE span_ms = ?", (MINUTE_MS,))
    assert explained(
        connection, 4 * 48 + 8, lambda c: CounterTables(c).lengthen_oldest(counted + 60 * MS_PER_DAY + 2 * HOUR_MS)
    )


def test_counting(world: World, connection: DriverConnection) -> None:
    first = explained(connection, 2 * PAGE, lambda c: CountTables(c).pending("", world.now))
    assert first.next_after is not None
    after = first.next_after
    assert (
        sum(explained(connection, 2 * PAGE, lambda c: CountTables(c).pending(after, world.now)).counts.values()) == PAGE
    )
    explained(connection, 2 * PAGE, lambda c: CountTables(c).endpoints("", world.now))


def test_removing_a_batch_of_old_rows(databases: Databases, world: World) -> None:
    store = "sqlite" if world.url.startswith("sqlite") else "postgres"
    past = world.now - 200 * MS_PER_DAY
    history = History(databases.fresh(store), world.now)
    history.events(history.endpoint(), 20_000, at=past)
    with transaction(history.url) as connection:
        for kind in _OLD:
            assert explained(connection, 4 * BATCH_SIZE, partial(_remove, kind=kind, before=past + 1)) == BATCH_SIZE
            connection.execute(f"DELETE FROM {kind}")


def _remove(connection: Connection, kind: Aging, before: UnixMs) -> int:
    return RetentionTables(connection).remove(kind, before)


# -- the statements of requests ----------------------------------------------------------------------------------------


def in_unit(connection: DriverConnection, max_rows_read: int, work: Callable[[UnitOfWork], T]) -> T:
    """Run `work` and write its events, and check the plans of all statements."""

    def use(checking: Connection) -> T:
        unit = unit_on(checking)
        result = work(unit)
        unit.outbox.flush()
        return result

    return explained(connection, max_rows_read, use)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("size", [1, 3, BATCH])
def test_recording_purchases(connection: DriverConnection, size: int, *, known: bool) -> None:
    """Half of the customers are named by their own ids, half by those of the merchant."""
    numbers = range(100, 100 + size)
    ids = dict[Any, Any](connection.execute("SELECT external_id, id FROM customers WHERE account_id = ?", (ACCOUNT,)))
    purchases = [
        replace(
            purchase(amount=1_000),
            customer_id=None if n % 2 else ids[f"customer-{n}"],
            customer_external_id=f"customer-{n}" if n % 2 else None,
            external_id=f"purchase-{n}" if known else f"new-purchase-{n}",
        )
        for n in numbers
    ]
    command = RecordPurchases(ACCOUNT, purchases)
    outcomes = in_unit(connection, 4 * size, lambda unit: record_purchases(unit, command))
    assert [isinstance(each, Purchase) and each.replayed for each in outcomes] == [known] * size


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("size", [1, 3, BATCH])
def test_refunding_purchases(connection: DriverConnection, size: int, *, known: bool) -> None:
    """Half of the purchases are named by their own ids, half by those of the merchant."""
    numbers = range(100, 100 + size)
    sql = "SELECT external_id, id FROM transactions WHERE account_id = ?"
    ids = dict[Any, Any](connection.execute(sql, (ACCOUNT,)))
    refunds = [
        NewRefund(
            transaction_id=None if n % 2 else ids[f"purchase-{n}"],
            transaction_external_id=f"purchase-{n}" if n % 2 else None,
            amount=500,
            external_id=f"refund-{n}" if known else f"new-refund-{n}",
        )
        for n in numbers
    ]
    outcomes = in_unit(connection, 4 * size, lambda unit: refund_purchases(unit, RefundPurchases(ACCOUNT, refunds)))
    assert [isinstance(each, Refunded) or each.code for each in outcomes] == ["refund_exists" if known else True] * size
    listed = in_unit(connection, 4, lambda unit: unit.refunds.list_newest(ids["purchase-101"], None, BATCH))
    assert len(listed) == (2 if size > 1 and not known else 1)


@pytest.mark.parametrize("size", [1, 3, BATCH])
def test_requests_with_idempotency_keys(world: World, connection: DriverConnection, size: int) -> None:
    keys = [f"key-{n}" for n in range(100, 100 + size)]
    found = explained(
        connection, 4 * size, lambda c: IdempotencyTables(c, VAULT).responses(ACCOUNT, keys, world.now - 1)
    )
    assert set(found) == set(keys)
    responses = {f"new-{key}": StoredResponse(b"f", 201, b"{}") for key in keys}
    explained(connection, 4 * size, lambda c: IdempotencyTables(c, VAULT).store(ACCOUNT, responses, world.now))
    removed = explained(connection, 4 * BATCH, lambda c: IdempotencyTables(c, VAULT).remove_expired(world.now, BATCH))
    assert removed == BATCH


def test_customers(world: World, connection: DriverConnection) -> None:
    enrollment = EnrollCustomer(ACCOUNT, "a new customer", "new@example.com", None, None, {}, source="api")
    customer = in_unit(connection, 8, lambda unit: enroll_customer(unit, enrollment))
    with pytest.raises(Conflict):
        in_unit(connection, 8, lambda unit: enroll_customer(unit, replace(enrollment, external_id="customer-7")))
    changes = {"external_id": "another id", "name": "A name"}
    in_unit(connection, 8, lambda unit: update_customer(unit, UpdateCustomer(ACCOUNT, customer.id, changes)))
    command = RecordPurchases(ACCOUNT, [purchase(customer_id=customer.id)])
    in_unit(connection, 8, lambda unit: record_purchases(unit, command))
    in_unit(connection, 8, lambda unit: delete_customer(unit, DeleteCustomer(ACCOUNT, customer.id)))
    lists: list[Callable[[UnitOfWork], Sequence[object]]] = [
        lambda unit: unit.transactions.list_newest(ACCOUNT, None, None, None, BATCH),
        lambda unit: unit.transactions.list_newest(ACCOUNT, None, None, _middle(connection, "transactions"), BATCH),
        lambda unit: unit.transactions.list_newest(ACCOUNT, None, "purchase-7", None, BATCH),
        lambda unit: unit.transactions.list_newest(ACCOUNT, customer.id, None, None, BATCH),
        lambda unit: unit.ledger.list_entries(customer.id, None, BATCH),
        lambda unit: unit.ledger.list_lots(customer.id, None, BATCH),
    ]
    for each in lists:
        assert in_unit(connection, 4 * BATCH, each)


@pytest.mark.parametrize("from_start", [True, False])
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (CustomerFilter(), "many"),
        (CustomerFilter("customer-19007"), "one"),
        (CustomerFilter(email_key="19007@example.com"), "one"),
        (CustomerFilter(phone_key="+7"), "one"),
        (CustomerFilter(tag="all"), "many"),
        (CustomerFilter(tag="few"), "one"),
        (CustomerFilter(tier_id="lowest"), "many"),
        (CustomerFilter(tier_id="none"), "none"),
    ],
)
def test_searching_customers(
    world: World, connection: DriverConnection, filters: CustomerFilter, found: str, *, from_start: bool
) -> None:
    connection.execute(
        "INSERT INTO customer_tags (account_id, tag, customer_id) SELECT account_id, 'all', id FROM customers"
    )
    connection.execute(
        "INSERT INTO customer_tags (account_id, tag, customer_id) SELECT account_id, 'few', id FROM customers"
        " WHERE external_id = 'customer-19007'"
    )
    connection.execute("UPDATE customers SET phone_key = '+7' WHERE external_id = 'customer-19007'")
    if filters.tier_id == "lowest":
        [(lowest,)] = connection.execute("SELECT id FROM tiers ORDER BY rank LIMIT 1")
        filters = CustomerFilter(tier_id=lowest)
    before = None if from_start else _middle(connection, "customers")
    command = ListCustomers(ACCOUNT, filters, before, BATCH)
    page = in_unit(connection, 4 * BATCH, lambda unit: list_customers(unit, command))
    expected = BATCH if found == "many" else 1 if from_start and found == "one" else 0
    assert len(page.customers) == expected


@pytest.mark.parametrize("wanted", [{"updated_since": 1}, {"updated_since": 10**15}, {"tag": "all", "email_key": "7@example.com"},
                                    {"tag": "all", "updated_since": 10**15}])  # fmt: skip
def test_searching_customers_by_several_filters(connection: DriverConnection, wanted: dict[str, Any]) -> None:
    """A page examines at most 1,000 customers, and reads each once more."""
    connection.execute(
        "INSERT INTO customer_tags (account_id, tag, customer_id) SELECT account_id, 'all', id FROM customers"
    )
    command = ListCustomers(ACCOUNT, CustomerFilter(**wanted), None, BATCH)
    page = in_unit(connection, 2_100, lambda unit: list_customers(unit, command))
    assert page.customers or page.next_before_id or "email_key" in wanted


@pytest.mark.parametrize(
    "text", ["name 19", "Ängström", "customer-19007", "19007@example.com", "+49 171 19007", "few", "a"]
)
def test_finding_customers_by_one_text(connection: DriverConnection, text: str) -> None:
    connection.execute(
        "UPDATE customers SET name = CASE WHEN external_id IN ('customer-7', 'customer-8') THEN 'Ängström' ELSE"
        " 'Name ' || substr(external_id, 10) END"
    )
    query = FindCustomers(ACCOUNT, text, BATCH)
    found = in_unit(connection, 8 * BATCH, lambda unit: find_customers(unit, query))
    assert len(found) <= BATCH
    assert bool(found) == (text not in ("few", "a", "+49 171 19007"))


def test_finding_by_the_end_of_an_id(world: World, connection: DriverConnection) -> None:
    tails = [_middle(connection, table)[-6:] for table in ("customers", "transactions")]
    looks: list[Callable[[UnitOfWork], list[str]]] = [
        lambda unit: customers_with_tail(unit, RecentTail(ACCOUNT, tails[0], 0, 5_000)),
        lambda unit: purchases_with_tail(unit, RecentTail(ACCOUNT, tails[1], 0, 5_000)),
        lambda unit: events_with_tail(unit, RecentTail(ACCOUNT, "000000", 0, 5_000)),
        lambda unit: deliveries_with_tail(unit, RecentTail(ACCOUNT, "000000", 0, 5_000)),
    ]
    for each in looks:
        in_unit(connection, 5_100, each)


def test_the_page_of_a_customer(world: World, connection: DriverConnection) -> None:
    [(customer_id,)] = connection.execute("SELECT id FROM customers WHERE external_id = 'customer-7'")
    query = ListOfCustomer(ACCOUNT, customer_id, None, BATCH)
    found = in_unit(connection, 8 * BATCH, lambda unit: get_customer_overview(unit, query))
    assert found.ledger.entries
    assert found.ledger.causes
    ids = [each.id for each in found.ledger.entries]
    of_entries = EntryEvents(ACCOUNT, customer_id, ids, 0, world.now)
    in_unit(connection, 8 * BATCH, lambda unit: events_of_entries(unit, of_entries))
    in_unit(connection, 8, lambda unit: unit.people.names(ACCOUNT, ["usr_1", "usr_2", "usr_3"]))


@pytest.mark.parametrize("size", [1, 300])
def test_enrolling_a_batch(connection: DriverConnection, size: int) -> None:
    enrollments = [
        EnrollCustomer(ACCOUNT, f"enrolled-{n}", f"e{n}@example.com", f"+{n}", None, {}, "api", ("a", "b"))
        for n in range(size)
    ]
    command = EnrollCustomers(ACCOUNT, enrollments)
    outcomes = in_unit(connection, 8 * size, lambda unit: enroll_customers(unit, command))
    assert all(isinstance(each, Customer) for each in outcomes)


def test_merging_and_deleting_a_customer_among_many(world: World, connection: DriverConnection) -> None:
    for table, values in OTHER_TABLES.items():
        plant_for_all(connection, table, **values)
    plant_for_all(connection, "customer_days")
    connection.execute(
        "INSERT INTO customer_tags (account_id, tag, customer_id) SELECT account_id, 'all', id FROM customers"
    )
    [(gone,), (into,)] = connection.execute(
        "SELECT id FROM customers WHERE external_id IN ('customer-7', 'customer-8') ORDER BY id"
    )
    in_unit(connection, 16, lambda unit: merge_customer(unit, MergeCustomer(ACCOUNT, gone, into)))
    exported = in_unit(connection, 8, lambda unit: exported_customers(unit, GetCustomer(ACCOUNT, into)))
    assert exported == [into, gone]
    for section in SECTIONS:
        read = ReadExport(ACCOUNT, into, section, None)
        assert in_unit(connection, 16, partial(read_export, command=read)).rows or section in (
            "churn_scores",
            "audit_log",
        )
        if section == "transactions":
            [(last,)] = connection.execute("SELECT MAX(id) FROM transactions WHERE customer_id = ?", (into,))
            in_unit(connection, 16, partial(read_export, command=replace(read, after=last)))
    found = in_unit(connection, 16, lambda unit: get_statement(unit, GetStatement(ACCOUNT, into, 1, world.now + 1)))
    assert found.closing.balance_after
    in_unit(connection, 16, lambda unit: unit.ledger.list_lots(into, None, BATCH, only_open=True))
    in_unit(connection, 16, lambda unit: delete_customer(unit, DeleteCustomer(ACCOUNT, into)))
    for customer_id in (into, gone):
        for _ in range(3):
            in_unit(connection, 32, partial(erase_next, customer_id=customer_id))


def test_changing_a_pending_lot(connection: DriverConnection) -> None:
    [(lot_id, customer_id)] = connection.execute(
        "SELECT l.id, c.id FROM customers c JOIN lots l ON l.customer_id = c.id WHERE c.external_id = 'customer-7'"
    )
    connection.execute("UPDATE lots SET status = 'pending' WHERE id = ?", (lot_id,))
    connection.execute("UPDATE customers SET available = 0, pending = 10 WHERE id = ?", (customer_id,))
    lot = in_unit(connection, 8, lambda unit: activate_lot(unit, ChangeLot(ACCOUNT, lot_id)))
    assert lot.status == "active"


def test_the_program_and_campaigns(world: World, connection: DriverConnection) -> None:
    campaign = new_campaign(ACCOUNT)
    made = in_unit(connection, 8, lambda unit: create_campaign(unit, CreateCampaign(campaign, starts_now=True)))
    customers = [id_ for (id_,) in connection.execute("SELECT id FROM customers LIMIT ?", (BATCH,))]
    used = {(made.id, id_): 1 for id_ in customers}
    in_unit(connection, 4 * BATCH, lambda unit: unit.campaigns.add_uses(used))
    uses = in_unit(connection, 4 * BATCH, lambda unit: unit.campaigns.uses(customers, [made.id]))
    assert len(uses) == BATCH
    first = floor("txn", 0)
    lists: list[Callable[[UnitOfWork], Sequence[object]]] = [
        lambda unit: unit.campaigns.during(ACCOUNT, 0, unit.now),
        lambda unit: unit.campaigns.list_newest(ACCOUNT, None, None, BATCH),
        lambda unit: unit.campaigns.list_newest(ACCOUNT, "active", None, BATCH),
        lambda unit: unit.programs.list_versions(ACCOUNT, None, BATCH),
        lambda unit: unit.transactions.past_orders(ACCOUNT, first, 0, None, BATCH),
        lambda unit: unit.transactions.past_orders(ACCOUNT, first, 0, _middle(connection, "transactions"), BATCH),
    ]
    for each in lists:
        assert in_unit(connection, 4 * BATCH, each)
    assert in_unit(connection, 8, lambda unit: unit.campaigns.count_unarchived(ACCOUNT, BATCH)) == 1
    in_unit(connection, 8, lambda unit: archive_campaign(unit, CampaignRef(ACCOUNT, made.id)))
    same_day = CalculatePurchase(ACCOUNT, customers[0], None, Order(5_600, "EUR"), world.now)
    assert in_unit(connection, 16, lambda unit: calculate_purchase(unit, same_day)).points == 56


def test_redemptions(world: World, connection: DriverConnection) -> None:
    """20,000 redemptions of all customers, a quarter of them reserved; then each command of one customer."""
    _insert_redemptions(connection, world)
    [(customer,)] = connection.execute("SELECT id FROM customers WHERE external_id = 'customer-9'")
    reward = in_unit(connection, 4, lambda unit: create_reward(unit, _REWARD)).id
    give = AdjustPoints(ACCOUNT, customer, 1_000, "x", None, None, False, False, "adjustment-1")
    in_unit(connection, 16, lambda unit: adjust_points(unit, give))
    in_unit(connection, 16, lambda unit: adjust_points(unit, give))
    in_unit(connection, 16, lambda unit: adjust_points(unit, replace(give, points=-1, external_id=None)))
    command = RedeemPoints(ACCOUNT, customer, None, 10, None, 60_000, None, "redemption-1", None, None)
    made = in_unit(connection, 16, lambda unit: _redeemed(unit, command)).redemption
    assert in_unit(connection, 16, lambda unit: _redeemed(unit, command)).replayed
    of_reward = replace(command, points=None, reward_id=reward, external_id=None, reserve_ms=None)
    redeemed = in_unit(connection, 16, lambda unit: _redeemed(unit, of_reward)).redemption
    reserved = in_unit(connection, 16, lambda unit: _redeemed(unit, replace(command, external_id=None))).redemption
    [(purchase_id,)] = connection.execute("SELECT id FROM transactions WHERE customer_id = ?", (customer,))
    capture = CaptureRedemption(ACCOUNT, made.id, purchase_id)
    in_unit(connection, 16, lambda unit: capture_redemption(unit, capture))
    in_unit(connection, 16, lambda unit: cancel_redemption(unit, RedemptionRef(ACCOUNT, reserved.id)))
    in_unit(connection, 24, lambda unit: reverse_redemption(unit, ReverseRedemption(ACCOUNT, redeemed.id, 1)))
    lists: list[Callable[[UnitOfWork], Sequence[object]]] = [
        lambda unit: unit.redemptions.list_newest(ACCOUNT, None, BATCH),
        lambda unit: unit.redemptions.list_newest(ACCOUNT, _middle(connection, "redemptions"), BATCH),
        lambda unit: unit.redemptions.list_newest(ACCOUNT, None, BATCH, customer_id=customer),
        lambda unit: unit.redemptions.list_newest(ACCOUNT, None, BATCH, transaction_id=purchase_id),
        lambda unit: unit.redemptions.list_newest(ACCOUNT, None, BATCH, external_id="redemption-1"),
        lambda unit: unit.redemptions.list_newest(ACCOUNT, None, BATCH, code=made.code),
        lambda unit: offers(unit, [get_reward(unit, RewardRef(ACCOUNT, reward))], _customer(unit, customer)),
    ]
    for each in lists:
        assert in_unit(connection, 4 * BATCH, each)


def test_many_redemptions_at_once(world: World, connection: DriverConnection) -> None:
    """What a batch of purchases captures, what a batch of refunds returns, and what a sweep expires."""
    _insert_redemptions(connection, world)
    overdue = in_unit(connection, 4 * BATCH, lambda unit: unit.redemptions.overdue(unit.now, None, BATCH))
    assert len(overdue) == BATCH
    named = in_unit(
        connection, 4 * BATCH, lambda unit: unit.redemptions.by_ids(ACCOUNT, [id_ for _, id_, _ in overdue])
    )
    customers = {each.customer_id for each in named}

    def capture(unit: UnitOfWork) -> None:
        book = Book(unit, ACCOUNT, ids=customers)
        opened = named_redemptions(unit, book, [each.id for each in named[: BATCH // 2]])
        for each in named[: BATCH // 2]:
            unit.now = (each.reserved_until or 0) - 1
            opened.capture(each.id, f"txn-{each.id}")
        opened.write()

    in_unit(connection, 4 * BATCH, capture)
    ids = [id_ for _, id_, _ in overdue]
    command = ExpireReservations(ACCOUNT, ids)
    assert in_unit(connection, 8 * BATCH, lambda unit: expire_reservations(unit, command)) == BATCH // 2

    def restore(unit: UnitOfWork) -> int:
        book = Book(unit, ACCOUNT, ids=customers)
        purchases = [f"txn-{each.id}" for each in named[: BATCH // 2]]
        linked = linked_redemptions(unit, book, purchases)
        restored = sum(linked.restore_for_refund(each, 1, PutBack("refund", "key:1", "ref_1")) for each in purchases)
        linked.write()
        book.write()
        return restored

    assert in_unit(connection, 8 * BATCH, restore) == BATCH // 2

    def settle(unit: UnitOfWork) -> None:
        expire_overdue(unit, Book(unit, ACCOUNT, ids=customers, with_lots=True))

    in_unit(connection, 8 * BATCH, settle)


_REWARD = NewReward(
    account_id=ACCOUNT,
    name="A coffee",
    type="custom",
    amount=None,
    currency=None,
    percent=None,
    sku=None,
    cost_points=10,
    min_spend=None,
    tier_ids=(),
    tags=(),
    stock=9,
    limit_per_customer=9,
    starts_at=None,
    ends_at=None,
    status="active",
)


def _customer(unit: UnitOfWork, customer_id: str) -> Any:
    return unit.customers.get(ACCOUNT, customer_id)


def _insert_redemptions(connection: DriverConnection, world: World) -> None:
    """A redemption of 2 of the 10 points of each customer, with its entry and its allocation. Every fourth is reserved."""
    prefix, now = "red_01kat6b8z000000000000", world.now
    connection.execute(
        "INSERT INTO redemptions (id, account_id, customer_id, points, status, code, external_id, reserved_until, actor,"
        f" created_at, day) SELECT '{prefix}' || substr(id, length(id) - 4), account_id, customer_id, 2,"
        " CASE WHEN external_id LIKE '%7' OR external_id LIKE '%3' THEN 'reserved' ELSE 'redeemed' END,"
        " 'LP-' || substr(external_id, 10), external_id, CAST(? AS BIGINT), 'key:1', CAST(? AS BIGINT), 20000"
        " FROM transactions WHERE external_id LIKE 'purchase-%'",
        (now - 1, now - 900_000),
    )
    connection.execute(
        "INSERT INTO ledger_entries (id, account_id, customer_id, sequence, type, points, balance_after, pending_after,"
        " source_type, source_id, actor, rules, occurred_at, created_at)"
        " SELECT 'led_' || substr(id, 5), account_id, customer_id, 2, 'redeem', -2, 8, 0, 'redemption', id, 'key:1', '[]',"
        f" created_at, created_at FROM redemptions WHERE id LIKE '{prefix}%'"
    )
    connection.execute(
        "INSERT INTO allocations (entry_id, lot_id, kind, points) SELECT 'led_' || substr(r.id, 5), l.id, 'spend', 2"
        f" FROM redemptions r JOIN lots l ON l.customer_id = r.customer_id WHERE r.id LIKE '{prefix}%'"
    )
    connection.execute("UPDATE lots SET remaining = 8 WHERE remaining = 10")
    connection.execute(
        "UPDATE customers SET available = 8, lifetime_redeemed = 2, ledger_sequence = 2 WHERE available = 10"
    )


def test_sweeps(world: World, connection: DriverConnection) -> None:
    """All customers are due for everything, and each has points in its window and a reservation."""
    now = world.now
    today = now // MS_PER_DAY
    connection.execute("UPDATE customers SET next_due_at = ?, tier_review_at = ?, lifetime_earned = 900", (now, now))
    connection.execute(
        "INSERT INTO customer_days (customer_id, day, account_id, points_qualifying)"
        " SELECT c.id, d.column1, c.account_id, 10 FROM customers c CROSS JOIN (VALUES (CAST(? AS BIGINT)), (?), (?)) AS d"
        " WHERE c.account_id = ?",
        (today, today - 100, today - 500, ACCOUNT),
    )
    connection.execute(
        "INSERT INTO redemptions (id, account_id, customer_id, points, status, reserved_until, actor, created_at, day)"
        " SELECT 'red_' || c.id, c.account_id, c.id, 1, 'reserved', CAST(? AS BIGINT), 'key:key_1', 1, 0 FROM customers c",
        (now,),
    )
    sweeps: list[tuple[Find[UnitOfWork], Change[UnitOfWork] | None]] = [
        (find_due, settle),
        (find_to_review, review),
        (find_overdue, None),
    ]
    for find, change in sweeps:
        check_sweep(connection, find, change)
    unit = unit_on(connection)
    unit.programs.queue_retier(unit.ids.new("job"), ACCOUNT, "key:key_1", now)
    connection.execute("UPDATE tiers SET threshold = 20 WHERE name = 'Silver'")
    for _ in range(2):
        [job] = in_unit(connection, 1, lambda unit: unit.retiers.unfinished(BATCH_SIZE))
        piece = in_unit(connection, 16 * BATCH_SIZE, partial(retier_next, job=job))
        assert piece == Piece(BATCH_SIZE, more=True)


def check_sweep(connection: DriverConnection, find: Find[UnitOfWork], change: Change[UnitOfWork] | None) -> None:
    """Two pages of what is due, and what is done with the second one."""
    first = in_unit(connection, 4 * BATCH_SIZE, lambda unit: find(unit, None, BATCH_SIZE))
    found = in_unit(connection, 4 * BATCH_SIZE, lambda unit: find(unit, first[-1], BATCH_SIZE))
    assert len({each.id for each in [*first, *found]}) == 2 * BATCH_SIZE
    if change is not None:
        ids = sorted(each.id for each in found)
        in_unit(connection, 16 * BATCH_SIZE, lambda unit: change(unit, ACCOUNT, ids))


def test_churn(world: World, connection: DriverConnection) -> None:
    """Every customer has three days with purchases and a score. A thousand old runs are finished."""
    connection.execute(
        "INSERT INTO customer_days (customer_id, day, account_id, purchases, spend)"
        " SELECT id, column1, account_id, 1, 1000 FROM customers CROSS JOIN (VALUES (20000), (20010), (20020)) AS v"
    )
    connection.execute(
        "INSERT INTO churn_scores (customer_id, account_id, score, model_version, scored_at, level, level_since,"
        " last_purchase_on) SELECT id, account_id, 0.9, '2026-01-01', 1, 'low', 1, 1 FROM customers"
    )
    unit = unit_on(connection)
    runs = [
        ChurnRun(
            unit.ids.new("job"), ACCOUNT, date(2026, 1, 1), requested=True, baseline=False, actor="a", created_at=1
        )
        for _ in range(1_000)
    ]
    for run in runs[:-1]:
        unit.churn.insert_run(replace(run, status="done", announcement="emit", finished_at=1))
    unit.churn.insert_run(runs[-1])
    run_id = runs[-1].id
    assert in_unit(connection, 4, lambda unit: unit.churn.due_accounts(world.now, BATCH)) == [ACCOUNT]
    assert [each.id for each in in_unit(connection, 4, lambda unit: unit.churn.runnable(BATCH))] == [run_id]
    assert in_unit(connection, 4, lambda unit: unit.churn.unfinished_runs(ACCOUNT)) == 1
    assert in_unit(connection, 4, lambda unit: unit.churn.claim(run_id, world.now, world.now + 1))
    model = ChurnModel(ACCOUNT, "2026-01-01", None, 10, 0, None, 1)
    in_unit(connection, 2_100, lambda unit: begin_run(unit, run_id, model))
    for _ in range(2):
        piece = in_unit(connection, 8 * BATCH_SIZE, lambda unit: score_next(unit, run_id))
        assert (piece.items, piece.more) == (BATCH_SIZE, True)
    assert in_unit(connection, 4, lambda unit: unit.churn.run(ACCOUNT, run_id))
    middle = _middle(connection, "customers")
    pages: list[tuple[Level | None, str]] = [(None, ""), (None, middle), ("low", ""), ("low", middle)]
    for level, after_id in pages:
        query_ = partial(_scores, level=level, after_id=after_id)
        assert len(in_unit(connection, 4 * BATCH, query_)) == BATCH
    assert in_unit(connection, 4, lambda unit: unit.churn.list_scores(ACCOUNT, "low", middle, "", 2))
    page = in_unit(connection, 4 * 1_000, lambda unit: unit.churn.next_customers(ACCOUNT, middle, 1_000))
    assert in_unit(connection, 4 * 256, lambda unit: unit.churn.purchase_days(page[:256], date(2026, 1, 1)))
    in_unit(connection, 2_000, lambda unit: unit.churn.remove_old(ACCOUNT, world.now))


def _scores(unit: UnitOfWork, level: Level | None, after_id: str) -> Sequence[object]:
    return unit.churn.list_scores(ACCOUNT, level, None, after_id, BATCH)


def test_keys_and_the_audit_log(world: World, connection: DriverConnection) -> None:
    """10,000 keys of an account and 10,000 changes; keys are found by their text with every request."""
    unit = unit_on(connection)
    old = world.now - 10 * MS_PER_DAY
    for n in range(10_000):
        key = ApiKey(unit.ids.new("key"), ACCOUNT, f"key {n}", "", ("read",), None, old, "cli", None, None, old)
        unit.api_keys.insert(key, f"lp_{n}")
        entry = AuditEntry(
            unit.ids.new("aud"), ACCOUNT, f"key:{n % 100}", "customer.updated", f"cus_{n % 500}", old, None, None, None
        )
        unit.audit_log.insert(entry)
    found = in_unit(connection, 1, lambda unit: unit.api_keys.find("lp_77"))
    assert found is not None
    hours = {found.id: world.now}
    in_unit(connection, 1, lambda unit: unit.api_keys.mark_used(hours))
    after = unit.ids.new("aud")
    lists: list[Callable[[UnitOfWork], Sequence[object]]] = [
        lambda unit: unit.api_keys.list_before(ACCOUNT, None, BATCH),
        lambda unit: unit.api_keys.list_before(ACCOUNT, found.id, BATCH),
        lambda unit: unit.audit_log.list_before(ACCOUNT, None, BATCH, actor=None, object_id=None),
        lambda unit: unit.audit_log.list_before(ACCOUNT, after, BATCH, actor=None, object_id=None),
        lambda unit: unit.audit_log.list_before(ACCOUNT, after, BATCH, actor="key:7", object_id=None),
        lambda unit: unit.audit_log.list_before(ACCOUNT, after, BATCH, actor=None, object_id="cus_7"),
    ]
    for each in lists:
        assert in_unit(connection, 4 * BATCH, each)
    later = SystemClock().now_ms() + MS_PER_DAY
    assert in_unit(connection, 4 * BATCH_SIZE, lambda unit: unit.audit_log.remove(later)) == BATCH_SIZE


def test_people_and_web_sessions(world: World, connection: DriverConnection) -> None:
    unit, number = unit_on(connection), 2_000
    people = [
        Person(unit.ids.new("usr"), f"{n}@example.com", "", None, "system", True, False, world.now)
        for n in range(number)
    ]
    sessions = [
        WebSession(unit.ids.new("wse"), each.id, ACCOUNT, world.now, world.now, world.now, False, None, None)
        for each in people
    ]
    for n, (person, session) in enumerate(zip(people, sessions, strict=True)):
        unit.people.insert(person, "hash", ACCOUNT, "owner" if n == 0 else "viewer")
        unit.web_sessions.insert(session, f"token {n}")
        unit.second_factors.put_recovery_codes(person.id, ["code"])
        unit.second_factors.put(person.id, "SECRET", world.now)
    for n in range(number):
        invitation = Invitation(unit.ids.new("inv"), ACCOUNT, "viewer", "", "cli", world.now, world.now + n)
        unit.invitations.insert(invitation, f"link {n}")
    keys = [key_of("email", str(n)) for n in range(number)]
    unit.sign_in_tries.store(
        {key: (tries, world.now + 1) for key, tries in unit.sign_in_tries.lock(sorted(keys)).items()}
    )
    if connection.dialect.is_postgres:
        for table in ("users", "members", "web_sessions", "invitations", "sign_in_tries"):
            connection.execute(f"ANALYZE {table}")
    one, session = people[number // 2], sessions[number // 2]
    found = in_unit(connection, 8, lambda unit: unit.web_sessions.find(f"token {number // 2}"))
    assert found is not None
    assert found.session == session
    assert in_unit(connection, 2, lambda unit: unit.people.credentials(one.email.upper())) is not None
    few: tuple[Callable[[UnitOfWork], object], ...] = (
        lambda unit: unit.people.get(one.id),
        lambda unit: unit.people.lock(one.id),
        lambda unit: unit.people.update(one),
        lambda unit: unit.people.set_password(one.id, "other"),
        lambda unit: unit.people.memberships(one.id),
        lambda unit: unit.people.member(ACCOUNT, one.id),
        lambda unit: unit.people.lock_members(ACCOUNT),
        lambda unit: unit.people.set_role(ACCOUNT, one.id, "support"),
        lambda unit: unit.people.seen(ACCOUNT, one.id, world.now),
        lambda unit: unit.web_sessions.replace(session, "new token"),
        lambda unit: unit.web_sessions.note_use(session.id, world.now + 1),
        lambda unit: unit.web_sessions.list_of(one.id),
        lambda unit: unit.web_sessions.end_in("acct_other", one.id),
        lambda unit: unit.web_sessions.end_all(one.id, keep_id=session.id),
        lambda unit: unit.web_sessions.end(one.id, session.id),
        lambda unit: unit.second_factors.secret(one.id),
        lambda unit: unit.second_factors.use_step(one.id, 1),
        lambda unit: unit.second_factors.use_recovery_code(one.id, "code"),
        lambda unit: unit.second_factors.count_recovery_codes(one.id),
        lambda unit: unit.second_factors.remove(one.id),
        lambda unit: unit.invitations.find("link 7"),
        lambda unit: unit.invitations.lock("link 7"),
        lambda unit: unit.sign_in_tries.lock(keys[:2]),
        lambda unit: unit.sign_in_tries.remove(keys[:2]),
        lambda unit: unit.people.remove_member(ACCOUNT, one.id),
    )
    for work in few:
        in_unit(connection, 8, work)
    some: tuple[Callable[[UnitOfWork], object], ...] = (
        lambda unit: unit.people.list_members(ACCOUNT, None, BATCH),
        lambda unit: unit.people.list_members(ACCOUNT, one.id, BATCH),
        lambda unit: unit.invitations.list_before(ACCOUNT, None, BATCH, world.now),
        lambda unit: unit.web_sessions.remove_idle(world.now + 2, BATCH),
        lambda unit: unit.sign_in_tries.remove_old(world.now + 2, BATCH),
        lambda unit: unit.invitations.remove_expired(world.now + number // 2, BATCH),
    )
    for work in some:
        in_unit(connection, 5 * BATCH, work)
    in_unit(connection, number, lambda unit: unit.people.owners(ACCOUNT))
    in_unit(connection, number, lambda unit: unit.accounts.first())
    in_unit(connection, number, lambda unit: unit.invitations.remove_of(ACCOUNT, "cli"))


def test_the_check_of_ledgers(connection: DriverConnection) -> None:
    """Two pages of customers. Another customer was merged into one of the second page."""
    first = explained(connection, 8 * PAGE_OF_LEDGERS, lambda c: LogTables(c).page(""))
    last = first[-1].customer.id
    gone, into = connection.execute("SELECT id FROM customers WHERE id > ? ORDER BY id LIMIT 2", (last,))
    connection.execute("UPDATE customers SET status = 'merged', merged_into_id = ? WHERE id = ?", (*into, *gone))
    logs = explained(connection, 8 * PAGE_OF_LEDGERS, lambda c: LogTables(c).page(last))
    assert len(first) == len(logs) == PAGE_OF_LEDGERS
    assert [(log.customer.id, len(log.inherited)) for log in logs[:2]] == [(*gone, 0), (*into, 1)]


def test_erasing_a_customer(world: World, connection: DriverConnection) -> None:
    """The customer of the ordered endpoint, with 400 events that are not delivered yet, and a customer with a purchase."""
    [(buyer,)] = connection.execute("SELECT id FROM customers WHERE external_id = 'customer-7'")
    for customer_id in (world.customer, buyer):
        unit_on(connection).erasures.insert(Erasure(customer_id, ACCOUNT, 10_000, None, None, 0, 0), world.now)
    for customer_id in (world.customer, buyer, buyer):
        piece = in_unit(connection, 16 * BATCH, partial(erase_next, customer_id=customer_id))
        assert piece.items


def test_finding_the_endpoints_of_a_url(world: World, connection: DriverConnection) -> None:
    [(url,)] = connection.execute("SELECT url FROM endpoints WHERE id = ?", (world.endpoints[0],))
    query = EndpointsWithUrl(ACCOUNT, url)
    assert in_unit(connection, 16, lambda unit: check_registered(unit, query))


def test_counting_what_an_endpoint_is_owed(world: World, connection: DriverConnection) -> None:
    counted = explained(connection, 16 * BATCH, lambda c: DeliveryTables(c).waiting(world.endpoints, BATCH))
    assert set(counted.values()) == {BATCH}
    assert counted.keys() == set(world.endpoints)


@pytest.mark.parametrize("forged", [False, True])
def test_sending_a_sample(world: World, connection: DriverConnection, *, forged: bool) -> None:
    command = SendTestEvent(ACCOUNT, world.endpoints[0], "points.earned", forged=forged)
    assert in_unit(connection, 16, lambda unit: send_test_event(unit, command)).forged == forged


def test_replaying(world: World, connection: DriverConnection) -> None:
    unit = unit_on(connection)
    replay = Replay(
        id=unit.ids.new("rpl"),
        account_id=ACCOUNT,
        endpoint_id=world.endpoints[0],
        since=world.now - 13 * MS_PER_DAY,
        until=world.now,
        types=None,
        statuses=("missing",),
        status="running",
        cursor="",
        examined=0,
        replayed=0,
        created_at=world.now,
        finished_at=None,
    )
    unit.replays.insert(replay)
    assert in_unit(connection, 4, lambda unit: unit.replays.running()) == [replay.id]
    for _ in range(3):
        page = in_unit(connection, 4 * BATCH, partial(_next_page, replay_id=replay.id))
        assert len(page.events) == BATCH


def test_reports_and_exports(world: World, connection: DriverConnection) -> None:
    """Pages of 64 from the middle of the account; every fourth customer has points that become due."""
    connection.execute(
        "UPDATE customers SET next_due_at = created_at + 1 WHERE external_id LIKE '%7' OR external_id LIKE '%3'"
    )
    middle, sale = _middle(connection, "customers"), _middle(connection, "transactions")
    ids = [
        id_
        for (id_,) in connection.execute(f"SELECT id FROM customers WHERE id > ? ORDER BY id LIMIT {BATCH}", (middle,))
    ]
    [(tier, due_at)] = connection.execute(
        "SELECT MIN(tier_id), MAX(next_due_at) FROM customers WHERE id = ?", (ids[2],)
    )
    until = due_at or world.now + 1
    lists: list[Callable[[UnitOfWork], Sequence[object]]] = [
        lambda unit: unit.reports.customers_after(ACCOUNT, None, middle, BATCH),
        lambda unit: unit.reports.customers_after(ACCOUNT, tier, middle, BATCH),
        lambda unit: unit.reports.customer_ids_after(ACCOUNT, middle, BATCH),
        lambda unit: unit.reports.transactions_between(ACCOUNT, None, sale, None, BATCH),
        lambda unit: unit.reports.transactions_between(ACCOUNT, ids[1], "", None, BATCH),
        lambda unit: unit.reports.entries_after(ACCOUNT, ids, (ids[0], 0), BATCH),
        lambda unit: unit.reports.due(ACCOUNT, until, None, BATCH),
        lambda unit: [unit.reports.activity(ACCOUNT, 0, until, BATCH)],
        lambda unit: unit.reports.due(ACCOUNT, until, (until, middle), BATCH),
    ]
    for each in lists:
        assert in_unit(connection, 4 * BATCH, each)
    page = in_unit(connection, 8 * BATCH, lambda unit: unit.reports.liability(ACCOUNT, world.now, middle, BATCH))
    assert (page.sums.available, page.last_id) == (10 * BATCH, ids[-1])


def test_jobs_of_an_account_with_many(world: World, connection: DriverConnection) -> None:
    """2,000 jobs that have ended, each with a piece."""
    unit = unit_on(connection)
    for n in range(2_000):
        made = Job(unit.ids.new("job"), ACCOUNT, "export", "queued", {}, "", None, "cli", world.now, world.now)
        unit.jobs.insert(made)
        unit.jobs.add_pieces(made.id, 0, [b"x"])
        if n:
            unit.jobs.finish(made, "done", world.now - n)
    assert [each.status for each in in_unit(connection, 8, lambda unit: unit.jobs.unfinished(["export"]))] == ["queued"]
    newest = in_unit(connection, 4 * BATCH, lambda unit: unit.jobs.list_newest(ACCOUNT, ["export"], made.id, BATCH))
    assert len(newest) == BATCH
    assert in_unit(connection, 8, lambda unit: unit.jobs.piece(made.id, 0)) == b"x"
    assert in_unit(connection, 8, lambda unit: unit.jobs.pieces(made.id, 0, 10)) == [b"x"]
    assert in_unit(connection, 400, lambda unit: unit.jobs.remove_finished(world.now)) == 20


def _next_page(unit: UnitOfWork, replay_id: str) -> ReplayPage:
    replay = unit.replays.lock_running(replay_id)
    assert replay
    page = unit.replays.next_events(replay, BATCH)
    unit.replays.advance(replay, page, replayed=0)
    return page


# -- the statements of fraud rules ---------------------------------------------------------------------------------------


SUSPECTS = 5_000


@pytest.mark.parametrize("size", [1, 3, BATCH])
def test_the_newest_purchases_of_customers(connection: DriverConnection, size: int) -> None:
    """One of them has thousands of purchases, of which the newest are read."""
    rows = connection.execute("SELECT id FROM customers ORDER BY id LIMIT ?", (size,))
    first = rows[0][0]
    connection.execute(
        "UPDATE transactions SET customer_id = ? WHERE id IN (SELECT id FROM transactions ORDER BY id DESC LIMIT ?)",
        (first, SUSPECTS),
    )
    since = {id_: 0 for (id_,) in rows}
    found = in_unit(connection, 3 * 20 + 4 * size, lambda unit: unit.fraud.newest_purchases(since, 20, 0))
    assert len(found[first]) == 20
    assert [each.id for each in found[first]] == sorted((each.id for each in found[first]), reverse=True)
    assert all(len(found[id_]) == 1 for (id_,) in rows[1:])
    assert in_unit(connection, 8, lambda unit: unit.fraud.count_purchases(first, 0, 4, 0)) == 4


@pytest.mark.parametrize("size", [1, 3, BATCH])
def test_the_customers_of_values(world: World, connection: DriverConnection, size: int) -> None:
    """One value was seen with thousands of customers, of whom a few are read."""
    unit = unit_on(connection)
    customers = [id_ for (id_,) in connection.execute("SELECT id FROM customers ORDER BY id LIMIT ?", (SUSPECTS,))]
    values = [Sighting("device", b"%032d" % n) for n in range(size)]
    seen = [(values[0], SeenCustomer(each, "txn_1")) for each in customers]
    unit.fraud.note_seen(
        ACCOUNT, [*seen, *((each, SeenCustomer(customers[0], "txn_1")) for each in values[1:])], world.now
    )
    found = in_unit(connection, 5 * 21 + 5 * size, lambda unit: unit.fraud.seen(ACCOUNT, values, world.now - 1, 21))
    assert [len(found[each]) for each in values] == [21, *[1] * (size - 1)]
    in_unit(connection, 4, lambda unit: unit.fraud.note_seen(ACCOUNT, seen[:1], world.now))
    assert in_unit(connection, 4 * BATCH_SIZE, lambda u: u.fraud.forget_seen(world.now + 1, BATCH_SIZE)) == BATCH_SIZE


def test_fraud_cases(world: World, connection: DriverConnection) -> None:
    """Thousands of them, closed but for one, which holds thousands of lots."""
    unit = unit_on(connection)
    lots = connection.execute("SELECT id, customer_id FROM lots ORDER BY id LIMIT ?", (SUSPECTS,))
    rule = default_rule(ACCOUNT, VelocityEarn)
    for number, (_, customer_id) in enumerate(lots):
        found = Finding(rule, customer_id, Measurement("count", 5, 5, "PT1H", "customer"), (), customer_id)
        case = opened(found, unit.ids.new("frd"), ACCOUNT, "hold", world.now)
        assert unit.fraud.open_case(case)
        if number:
            unit.fraud.close_case(closed(case, "confirmed", "key:1", None, world.now))
        else:
            held = case
    unit.fraud.hold([(held.id, lot_id) for lot_id, _ in lots])
    keys = [("velocity.earn", hash_of_key(replace(found, key=customer_id))) for _, customer_id in lots[:BATCH]]
    assert len(in_unit(connection, 8 * BATCH, lambda unit: unit.fraud.latest_cases(ACCOUNT, keys))) == BATCH
    lists: list[tuple[int, Callable[[UnitOfWork], Sequence[object]]]] = [
        (BATCH, lambda unit: unit.fraud.list_cases(ACCOUNT, None, None, None, None, BATCH)),
        (BATCH, lambda unit: unit.fraud.list_cases(ACCOUNT, "confirmed", None, None, case.id, BATCH)),
        (BATCH, lambda unit: unit.fraud.list_cases(ACCOUNT, None, "velocity.earn", None, None, BATCH)),
        (1, lambda unit: unit.fraud.list_cases(ACCOUNT, "open", None, None, None, BATCH)),
        (1, lambda unit: unit.fraud.list_cases(ACCOUNT, None, None, lots[7][1], None, BATCH)),
        (1, lambda unit: unit.fraud.cases_to_lapse(world.now, BATCH)),
        (0, lambda unit: unit.fraud.cases_to_settle(BATCH)),
    ]
    for length, each in lists:
        assert len(in_unit(connection, 4 * BATCH, each)) == length
    assert len(in_unit(connection, 8 * BATCH, lambda unit: unit.fraud.lots_held_by(held.id, BATCH))) == BATCH
    some = [lot_id for lot_id, _ in lots[:BATCH]]
    assert len(in_unit(connection, 8 * BATCH, lambda unit: unit.fraud.holders_of(some))) == BATCH
    in_unit(connection, 8, lambda unit: unit.fraud.let_go([(held.id, some[0])]))
    in_unit(connection, 8, lambda unit: unit.fraud.add_hits([(held, 1)]))
    assert in_unit(connection, 8, lambda unit: unit.fraud.lock_open(held.id))
    assert in_unit(connection, 8, lambda unit: unit.fraud.get_case(ACCOUNT, held.id, lock=True))


def test_credits_by_hand(world: World, connection: DriverConnection) -> None:
    entries = "id, account_id, customer_id, sequence, type, points, balance_after, pending_after, source_type, source_id, actor"
    ids = unit_on(connection).ids
    connection.execute_many(
        f"INSERT INTO ledger_entries ({entries}, rules, occurred_at, created_at) VALUES ({', '.join('?' * 14)})",
        [
            (
                ids.new("led"),
                ACCOUNT,
                "cus_1",
                n,
                "adjust",
                5,
                5,
                0,
                "adjustment",
                ids.new("adj"),
                f"key:{n % 2}",
                "[]",
                1,
                1,
            )
            for n in range(1, SUSPECTS)
        ],
    )
    found = in_unit(
        connection, 200, lambda unit: unit.fraud.newest_credits(ACCOUNT, "key:1", world.now - MS_PER_DAY, 51)
    )
    assert len(found) == 51


def _redeemed(unit: UnitOfWork, command: RedeemPoints) -> MadeRedemption:
    made = redeem_points(unit, command)
    assert isinstance(made, MadeRedemption)
    return made


def _middle(connection: Connection, table: str) -> str:
    [(id_,)] = connection.execute(f"SELECT id FROM {table} ORDER BY id LIMIT 1 OFFSET {PURCHASES // 2}")
    return str(id_)
