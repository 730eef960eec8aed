"""No statement that runs all the time may look through a whole table, however much lies behind it."""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pytest

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.ports import Attempt, Claim, LaneRequest, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs, VirtualClock
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection, DriverConnection, Row, Statement
from loyalpro.storage.dialect import Dialect
from loyalpro.storage.tables.deliveries import DeliveryFilter, DeliveryTables
from loyalpro.storage.tables.events import EventFilter, EventTables
from loyalpro.storage.tables.lanes import LaneTables
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.tables.retention import Aging, RetentionTables
from loyalpro.storage.tables.settlements import SettlementTables
from loyalpro.storage.tables.sweeps import SweepTables
from support.databases import Databases
from support.history import ACCOUNT, VAULT, History, connect, query, transaction

T = TypeVar("T")
_OLD: tuple[Aging, ...] = ("attempts", "deliveries", "events")
BEHIND = 50_000
OWED = 12_500
BODY = b'{"data":"%s"}' % (b"x" * 600)
ROOM = 64
BIG = re.compile(r"^(events|attempts|deliveries)")
SMALL_INDEX = "USING INDEX deliveries_by_hand"
"""A partial index that holds only what is being sent by hand: going through all of it is what it is for."""


@dataclass
class Watched:
    """A connection that looks at the plan of every statement before it runs it."""

    inner: Connection
    most_read: int
    seen: int = 0

    @property
    def dialect(self) -> Dialect:
        return self.inner.dialect

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        self._look(sql, params)
        return self.inner.execute(sql, params)

    def execute_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        return [self.execute(sql, params) for sql, params in statements]

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        for row in rows[:1]:
            self._look(sql, row)
        self.inner.execute_many(sql, rows)

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        self._look(sql, params)
        return self.inner.change(sql, params)

    def run_script(self, sql: str) -> None:
        self.inner.run_script(sql)

    def _look(self, sql: str, params: Sequence[object]) -> None:
        self.seen += 1
        if sql.split(maxsplit=1)[0] in ("SET", "LOCK"):
            return
        if self.dialect.is_postgres:
            _check_postgres(self.inner, sql, params, self.most_read)
        else:
            _check_sqlite(self.inner, sql, params)


@dataclass(frozen=True)
class World:
    """A database with a past, and what stands in it."""

    url: str
    now: UnixMs
    history: History
    endpoints: list[str]
    customer: str
    last_event: str


@pytest.fixture(scope="module", params=["sqlite", "postgres", "postgres whose statistics are old"])
def world(request: pytest.FixtureRequest, databases: Databases) -> World:
    """50,000 events, delivered, of the last two weeks; as many that are owed, in four lanes and one in order."""
    now = SystemClock().now_ms()
    store, _, old = request.param.partition(" ")
    history = History(databases.fresh(store), now)
    customer = history.ids.new("cus")
    endpoints = [history.endpoint() for _ in range(4)] + [history.endpoint(ordering="customer")]
    if old:
        query(history.url, "ALTER TABLE deliveries_owed SET (autovacuum_enabled = off)")
        history.events(history.endpoint(), 3, at=now - 2_000, status="pending")
        query(history.url, "ANALYZE")
        query(history.url, "DELETE FROM deliveries")
    for n, endpoint in enumerate(endpoints):
        for days in (12, 6, 1):
            history.events(endpoint, BEHIND // 15, at=now - days * MS_PER_DAY, body=lambda _: BODY)
        ordered = n == 4
        last = history.events(
            *(endpoint, 400 if ordered else OWED),
            at=now - 1_000,
            status="pending",
            customer_id=customer if ordered else None,
            ordered=ordered,
        )
    if store == "postgres" and not old:  # as its autovacuum does; SQLite is never told to
        query(history.url, "ANALYZE")
    return World(history.url, now, history, endpoints, customer, last[0])


@pytest.fixture
def connection(world: World) -> Iterator[DriverConnection]:
    """A transaction that is undone."""
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
        if found and BIG.match(names.get(found.group(1), found.group(1))):
            assert SMALL_INDEX in detail, f"{detail}\n{sql}"


def _aliases(sql: str) -> dict[str, str]:
    """What the short names in a statement stand for."""
    return {alias: table for table, alias in re.findall(r"(?:FROM|JOIN|INTO|UPDATE)\s+(\w+)\s+(?:AS\s+)?(\w+)", sql)}


def _check_postgres(connection: Connection, sql: str, params: Sequence[object], most_read: int) -> None:
    connection.execute("SAVEPOINT explain")
    [(answer,)] = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
    connection.execute("ROLLBACK TO SAVEPOINT explain")
    plan = answer if isinstance(answer, list) else json.loads(answer)
    nodes = list(_nodes(plan[0]["Plan"]))
    for node in nodes:
        if node["Node Type"] == "Seq Scan" and BIG.match(node["Relation Name"]):
            assert _pages(connection, node["Relation Name"]) <= 1, f"{node}\n{sql}"
    read = sum(_rows_read(node) for node in nodes if BIG.match(node.get("Relation Name", "")))
    assert read <= most_read, f"{read} rows of {most_read}\n{json.dumps(plan, indent=1)}\n{sql}"


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


def explained(connection: DriverConnection, most_read: int, use: Callable[[Connection], T]) -> T:
    """Run something, looking at the plans of all its statements."""
    watched = Watched(connection, most_read)
    result = use(watched)
    assert watched.seen
    return result


# -- the statements that run all the time ----------------------------------------------------------------------------


def test_the_guard_notices_a_whole_table(connection: DriverConnection) -> None:
    sql = "SELECT COUNT(*) FROM deliveries d WHERE d.created_at > 0"
    with pytest.raises(AssertionError):
        explained(connection, 10**9, lambda c: c.execute(sql))


def test_surveying(world: World, connection: DriverConnection) -> None:
    now = world.now
    survey = explained(connection, 4 * ROOM, lambda c: LaneTables(c, VAULT).survey(now, "", now - MS_PER_DAY))
    assert {lane.target.endpoint_id for lane in survey.lanes} == set(world.endpoints)


@pytest.mark.parametrize("claim", [Claim.DUE, Claim.URGENT])
def test_claiming(world: World, connection: DriverConnection, claim: Claim) -> None:
    lanes = [LaneRequest(endpoint, ROOM, claim) for endpoint in world.endpoints[:4]]
    claims = explained(connection, 4 * ROOM, lambda c: LaneTables(c, VAULT).claim("wrk_1", lanes, world.now, 0))
    assert len(claims.claimed) == (4 * ROOM if claim is Claim.DUE else 0)


def test_claiming_in_order(world: World, connection: DriverConnection) -> None:
    lanes = [LaneRequest(world.endpoints[4], ROOM)]
    claims = explained(connection, 8, lambda c: LaneTables(c, VAULT).claim("wrk_1", lanes, world.now, 0))
    assert len(claims.claimed) == 1


def test_settling(world: World, connection: DriverConnection) -> None:
    now = world.now
    lanes = [LaneRequest(endpoint, ROOM) for endpoint in world.endpoints]
    claims = LaneTables(connection, VAULT).claim("wrk_1", lanes, now, 0)
    settlements = [
        Settlement(each, DeliveryStatus.SUCCEEDED, now,
                   Attempt(1, now, OutcomeCode.SUCCEEDED, "", (), None, None, None))
        for each in claims.claimed
    ]  # fmt: skip
    ids = IdFactory(VirtualClock(now), random.Random(1))

    def settle(recorder: Connection) -> Any:
        return SettlementTables(recorder, ids).settle("wrk_1", settlements, now, longest_probe_s=60)

    settled = explained(connection, 4 * len(settlements), settle)
    assert len(settled.held) == len(settlements) > 4 * ROOM


def test_freeing_what_the_dead_held(world: World, connection: DriverConnection) -> None:
    lanes = [LaneRequest(world.endpoints[0], ROOM)]
    LaneTables(connection, VAULT).claim("wrk_1", lanes, world.now, 0)
    explained(connection, 4 * ROOM, lambda c: LeaseTables(c).release("wrk_1", world.now))
    LaneTables(connection, VAULT).claim("wrk_2", lanes, world.now, 0)
    connection.execute("DELETE FROM workers")
    assert explained(connection, 4 * ROOM, lambda c: LeaseTables(c).rescue_strays(world.now))


@pytest.mark.parametrize("from_start", [True, False])
@pytest.mark.parametrize("wanted", [EventFilter(), EventFilter(type="points.earned")])
def test_following_the_events(
    world: World, connection: DriverConnection, wanted: EventFilter, *, from_start: bool
) -> None:
    after = None if from_start else world.last_event
    found = explained(connection, 400, lambda c: EventTables(c).list_after(ACCOUNT, after, wanted, 100))
    assert len(found) == 100


def test_following_one_customer(world: World, connection: DriverConnection) -> None:
    wanted = EventFilter(customer_id=world.customer)
    found = explained(connection, 4 * 400, lambda c: EventTables(c).list_after(ACCOUNT, world.last_event, wanted, 100))
    assert len(found) == 100


@pytest.mark.parametrize(
    "wanted",
    [DeliveryFilter(), DeliveryFilter(endpoint_id="?"), DeliveryFilter(event_id="?"),
     DeliveryFilter(status=DeliveryStatus.PENDING), DeliveryFilter(status=DeliveryStatus.SUCCEEDED),
     DeliveryFilter(endpoint_id="?", status=DeliveryStatus.PENDING)],
)  # fmt: skip
def test_listing_deliveries(world: World, connection: DriverConnection, wanted: DeliveryFilter) -> None:
    chosen = DeliveryFilter(
        wanted.endpoint_id and world.endpoints[3], wanted.event_id and world.last_event, None, wanted.status
    )
    found = explained(connection, 40 * ROOM, lambda c: DeliveryTables(c).list_before(ACCOUNT, None, chosen, ROOM))
    assert len(found) == (1 if wanted.event_id else ROOM)
    delivery = found[0]
    explained(connection, 10, lambda c: DeliveryTables(c).get(ACCOUNT, delivery.id))
    explained(connection, 10, lambda c: DeliveryTables(c).attempts(delivery.id))


def test_sweeping(world: World, connection: DriverConnection) -> None:
    now = world.now
    ids = IdFactory(VirtualClock(now), random.Random(1))
    explained(connection, 400, lambda c: SweepTables(c).close_windows(now, now - MS_PER_DAY))
    assert not explained(connection, 10, lambda c: SweepTables(c).cancel_orphans(now))
    connection.execute(
        "UPDATE endpoints SET deleted_at = 1 WHERE id IN (?, ?)", (world.endpoints[3], world.endpoints[4])
    )
    assert explained(connection, 4 * 200, lambda c: SweepTables(c).cancel_orphans(now))
    explained(connection, 400, lambda c: RetentionTables(c).give_up(now - 30 * MS_PER_DAY, now, ids))


def test_removing_a_piece_of_what_is_old(databases: Databases, world: World) -> None:
    store = "sqlite" if world.url.startswith("sqlite") else "postgres"
    past = world.now - 200 * MS_PER_DAY
    history = History(databases.fresh(store), world.now)
    history.events(history.endpoint(), 20_000, at=past)
    with transaction(history.url) as connection:
        for kind in _OLD:
            assert explained(connection, 4 * 200, partial(_remove, kind=kind, before=past + 1)) == 200
            connection.execute(f"DELETE FROM {kind}")


def _remove(connection: Connection, kind: Aging, before: UnixMs) -> int:
    return RetentionTables(connection).remove(kind, before)
