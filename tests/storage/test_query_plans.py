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

from loyalpro.accounts.entities import ApiKey, AuditEntry, StoredResponse
from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.claims import ClaimKind, ClaimRequest
from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.jobs.periodic_job import BATCH_SIZE
from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs, VirtualClock
from loyalpro.kernel.errors import Conflict
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.adjustments import AdjustPoints, adjust_points
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.churn.entities import ChurnModel, ChurnRun
from loyalpro.loyalty.churn.levels import Level
from loyalpro.loyalty.customers import EnrollCustomer, UpdateCustomer, enroll_customer, update_customer
from loyalpro.loyalty.deletion import DeleteCustomer, delete_customer
from loyalpro.loyalty.entities import Erasure
from loyalpro.loyalty.erasure import erase_next
from loyalpro.loyalty.recording import Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.redemption_book import PutBack, expire_overdue, linked_redemptions, named_redemptions
from loyalpro.loyalty.redemptions import (
    CaptureRedemption,
    ExpireReservations,
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
from loyalpro.loyalty.sweeps.churn_run import begin_run, score_next
from loyalpro.storage.connection import Connection, DriverConnection, Row, Statement
from loyalpro.storage.dialect import Dialect
from loyalpro.storage.postgres.connection import numbered
from loyalpro.storage.tables.claims import ClaimTables
from loyalpro.storage.tables.counts import PAGE, CountTables
from loyalpro.storage.tables.deliveries import DeliveryTables
from loyalpro.storage.tables.events import EventTables
from loyalpro.storage.tables.idempotency import IdempotencyTables
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.tables.maintenance import MaintenanceTables
from loyalpro.storage.tables.retention import Aging, RetentionTables
from loyalpro.storage.tables.settlements import SettlementTables
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.webhooks.entities import Replay, ReplayPage
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
    r"^(events|attempts|deliveries|customers|customer_days|churn_scores|churn_runs|transactions|ledger_entries|lots|idempotency_keys|audit_log|api_keys"
    r"|allocations|adjustments|redemptions|refunds)"
)
_PARAMETER_TYPES = {int: "bigint", bytes: "bytea"}
"""The types that the driver declares; it leaves the others to the server."""
SMALL_INDEXES = re.compile("USING INDEX (deliveries_by_hand|churn_runs_unfinished)")
"""Partial indexes of the few deliveries that are sent manually, and of unfinished runs. Their statements scan all of them."""


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
            assert SMALL_INDEXES.search(detail), f"{detail}\n{sql}"


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
    [{}, {"endpoint_id"}, {"event_id"}, {DeliveryStatus.PENDING}, {DeliveryStatus.SUCCEEDED},
     {"endpoint_id", DeliveryStatus.PENDING}],
)  # fmt: skip
def test_listing_deliveries(world: World, connection: DriverConnection, wanted: set[str]) -> None:
    found = explained(
        connection,
        40 * BATCH,
        lambda c: DeliveryTables(c).list_before(
            ACCOUNT,
            None,
            BATCH,
            endpoint_id=world.endpoints[3] if "endpoint_id" in wanted else None,
            event_id=world.last_event if "event_id" in wanted else None,
            status=next((each for each in DeliveryStatus if each in wanted), None),
        ),
    )
    assert len(found) == (1 if "event_id" in wanted else BATCH)
    delivery = found[0]
    explained(connection, 10, lambda c: DeliveryTables(c).get(ACCOUNT, delivery.id))
    explained(connection, 10, lambda c: DeliveryTables(c).attempts(delivery.id))


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
        lambda unit: unit.customers.list_newest(ACCOUNT, None, None, None, BATCH),
        lambda unit: unit.customers.list_newest(ACCOUNT, None, None, _middle(connection, "customers"), BATCH),
        lambda unit: unit.customers.list_newest(ACCOUNT, "customer-7", None, None, BATCH),
        lambda unit: unit.customers.list_newest(ACCOUNT, None, "7@example.com", None, BATCH),
        lambda unit: unit.transactions.list_newest(ACCOUNT, None, None, None, BATCH),
        lambda unit: unit.transactions.list_newest(ACCOUNT, None, None, _middle(connection, "transactions"), BATCH),
        lambda unit: unit.transactions.list_newest(ACCOUNT, None, "purchase-7", None, BATCH),
        lambda unit: unit.transactions.list_newest(ACCOUNT, customer.id, None, None, BATCH),
        lambda unit: unit.ledger.list_entries(customer.id, None, BATCH),
        lambda unit: unit.ledger.list_lots(customer.id, None, BATCH),
    ]
    for each in lists:
        assert in_unit(connection, 4 * BATCH, each)


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
    made = in_unit(connection, 16, lambda unit: redeem_points(unit, command)).redemption
    assert in_unit(connection, 16, lambda unit: redeem_points(unit, command)).replayed
    of_reward = replace(command, points=None, reward_id=reward, external_id=None, reserve_ms=None)
    redeemed = in_unit(connection, 16, lambda unit: redeem_points(unit, of_reward)).redemption
    reserved = in_unit(connection, 16, lambda unit: redeem_points(unit, replace(command, external_id=None))).redemption
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
    overdue = in_unit(connection, 4 * BATCH, lambda unit: unit.redemptions.overdue(unit.now, BATCH))
    assert len(overdue) == BATCH
    named = in_unit(connection, 4 * BATCH, lambda unit: unit.redemptions.by_ids(ACCOUNT, [id_ for _, id_ in overdue]))
    customers = {each.customer_id for each in named}

    def capture(unit: UnitOfWork) -> None:
        book = Book(unit, ACCOUNT, ids=customers)
        opened = named_redemptions(unit, book, [each.id for each in named[: BATCH // 2]])
        for each in named[: BATCH // 2]:
            unit.now = (each.reserved_until or 0) - 1
            opened.capture(each.id, f"txn-{each.id}")
        opened.write()

    in_unit(connection, 4 * BATCH, capture)
    ids = [id_ for _, id_ in overdue]
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
        f" created_at) SELECT '{prefix}' || substr(id, length(id) - 4), account_id, customer_id, 2,"
        " CASE WHEN external_id LIKE '%7' OR external_id LIKE '%3' THEN 'reserved' ELSE 'redeemed' END,"
        " 'LP-' || substr(external_id, 10), external_id, CAST(? AS BIGINT), 'key:1', CAST(? AS BIGINT)"
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
    for level, after_id in ((None, ""), (None, middle), ("low", ""), ("low", middle)):
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


def test_erasing_a_customer(world: World, connection: DriverConnection) -> None:
    """The customer of the ordered endpoint, with 400 events that are not delivered yet, and a customer with a purchase."""
    [(buyer,)] = connection.execute("SELECT id FROM customers WHERE external_id = 'customer-7'")
    for customer_id in (world.customer, buyer):
        unit_on(connection).erasures.insert(Erasure(customer_id, ACCOUNT, 10_000, None, None, 0, 0), world.now)
    for customer_id in (world.customer, buyer, buyer):
        piece = in_unit(connection, 16 * BATCH, partial(erase_next, customer_id=customer_id))
        assert piece.items


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


def _next_page(unit: UnitOfWork, replay_id: str) -> ReplayPage:
    replay = unit.replays.lock_running(replay_id)
    assert replay
    page = unit.replays.next_events(replay, BATCH)
    unit.replays.advance(replay, page, replayed=0)
    return page


def _middle(connection: Connection, table: str) -> str:
    [(id_,)] = connection.execute(f"SELECT id FROM {table} ORDER BY id LIMIT 1 OFFSET {PURCHASES // 2}")
    return str(id_)
