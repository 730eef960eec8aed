"""What is kept, for how long, and that nobody waits while it goes."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from loyalpro.accounts.entities import IdempotentResult
from loyalpro.app import Application
from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.claims import ClaimRequest
from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs, VirtualClock
from loyalpro.kernel.errors import LockTaken
from loyalpro.kernel.ids import IdFactory, delivery_id, floor
from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.settings import Settings
from loyalpro.storage.connection import Connection, DriverConnection, Row
from loyalpro.storage.database import Database
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.dialect import POSTGRES
from loyalpro.storage.open import open_database
from loyalpro.storage.postgres import partitions
from loyalpro.storage.postgres.partitions import Week
from support.databases import Databases
from support.history import ACCOUNT, VAULT, History, connect, count, query, transaction
from support.jobs import Jobs, opened, run_jobs
from support.units import unit_on

BIG = ("attempts", "deliveries", "events")


@pytest.fixture
def now() -> UnixMs:
    return SystemClock().now_ms()


@pytest.fixture
def history(database_url: str, now: UnixMs) -> History:
    return History(database_url, now)


def counts(url: str) -> tuple[int, ...]:
    return tuple(count(url, table) for table in BIG)


# -- what goes and what stays ----------------------------------------------------------------------------------------


def test_what_is_older_than_ninety_days_goes_and_the_rest_stays(history: History, now: UnixMs) -> None:
    endpoint = history.endpoint()
    history.events(endpoint, 450, at=now - 91 * MS_PER_DAY)
    history.events(endpoint, 7, at=now - 89 * MS_PER_DAY)
    history.events(endpoint, 5, at=now)
    run_jobs(history.url, now)
    assert counts(history.url) == (12, 12, 12)
    assert count(history.url, "events", f"id < '{floor('evt', now - 90 * MS_PER_DAY)}'") == 0


def test_retention_follows_its_setting(history: History, now: UnixMs) -> None:
    endpoint = history.endpoint()
    history.events(endpoint, 3, at=now - 31 * MS_PER_DAY)
    run_jobs(history.url, now)
    assert counts(history.url) == (3, 3, 3)

    asyncio.run(opened(history.url, lambda database: Jobs(database, now, retention_days=30).run()))
    assert counts(history.url) == (0, 0, 0)


def test_less_than_thirty_days_are_refused() -> None:
    assert Settings().retention_days == 90
    with pytest.raises(ValidationError, match="retention_days"):
        Settings(retention_days=29)


def test_the_operator_says_how_often_everything_is_swept(database_url: str) -> None:
    settings = Settings(database_url=database_url, secret_key="a key for tests of enough characters", sweep_interval=7)
    jobs = {job.kind.name: job.every_s for job in Application(settings).scheduler._jobs}
    assert {every_s for name, every_s in jobs.items() if name not in ("windows", "disk_space", "replays")} == {7}
    assert set(jobs) >= {"windows", "retention", "unsent", "idempotency", "leftovers"}


def test_an_event_stays_as_long_as_a_delivery_of_it_is_owed(history: History, now: UnixMs) -> None:
    """Attempted lately, by a replay say: its window is open, so it may still be sent, with the bytes of its event."""
    endpoint = history.endpoint("paused")
    owed, done = history.events(endpoint, 2, at=now - 100 * MS_PER_DAY)
    query(
        history.url,
        "UPDATE deliveries SET status = 'pending', finished_at = NULL, first_attempt_at = ? WHERE event_id = ?",
        *(now, owed),
    )
    run_jobs(history.url, now)
    assert query(history.url, "SELECT id FROM events") == [(owed,)]
    assert query(history.url, "SELECT id, status FROM deliveries") == [(delivery_id(owed, endpoint), "pending")]
    later = now + 4 * MS_PER_DAY
    run_jobs(history.url, later, "windows", "retention")
    assert counts(history.url) == (0, 0, 0)
    assert done


def test_what_was_never_sent_is_given_up_a_week_before_its_event_goes_and_its_owner_is_told_once(
    history: History, now: UnixMs
) -> None:
    endpoint = history.endpoint("paused", ordering="customer")
    customer = history.ids.new("cus")
    old = history.events(endpoint, 3, at=now - 84 * MS_PER_DAY, status="pending", customer_id=customer, ordered=True)
    new = history.events(
        *(endpoint, 2), at=now - MS_PER_DAY, status="pending", customer_id=customer, first_sequence=4, ordered=True
    )
    query(history.url, "UPDATE deliveries SET due_at = NULL WHERE sequence = 4")
    run_jobs(history.url, now)
    run_jobs(history.url, now)
    assert set(query(history.url, "SELECT event_id, status FROM deliveries")) == {
        *((id_, "exhausted") for id_ in old),
        *((id_, "pending") for id_ in new),
    }
    assert query(history.url, "SELECT sequence FROM deliveries WHERE status = 'pending' AND due_at IS NOT NULL") == [
        (4,)
    ]
    assert query(history.url, "SELECT kind, endpoint_id FROM notices") == [("deliveries_given_up", endpoint)]
    assert count(history.url, "events") == 5


def test_what_is_replayed_in_its_last_days_is_owed_to_an_endpoint_that_is_enabled(
    history: History, now: UnixMs
) -> None:
    endpoint = history.endpoint()
    events = history.events(endpoint, 3, at=now - 89 * MS_PER_DAY)
    with transaction(history.url) as connection:
        unit = unit_on(connection)
        to = unit.endpoints.get(ACCOUNT, endpoint)
        for event in filter(None, [unit.events.hold(ACCOUNT, id_) for id_ in events]):
            assert to is not None
            assert unit.deliveries.renew(["succeeded"], event, to, now)
    run_jobs(history.url, now)
    assert count(history.url, "deliveries", "status = 'pending'") == 3
    assert count(history.url, "notices") == 0
    query(history.url, "UPDATE endpoints SET status = 'paused'")
    run_jobs(history.url, now)
    assert count(history.url, "deliveries", "status = 'exhausted'") == 3


def test_what_an_enabled_endpoint_does_not_take_keeps_its_event_for_a_week_and_no_longer(
    history: History, now: UnixMs
) -> None:
    """A rate limit that is lower than what comes, say: what waits must not grow for ever."""
    endpoint = history.endpoint()
    history.events(endpoint, 2, at=now - 98 * MS_PER_DAY, status="pending")
    [kept] = history.events(endpoint, 1, at=now - 96 * MS_PER_DAY, status="pending")
    run_jobs(history.url, now)
    assert query(history.url, "SELECT event_id, status FROM deliveries") == [(kept, "pending")]
    assert query(history.url, "SELECT id FROM events") == [(kept,)]
    assert query(history.url, "SELECT kind, endpoint_id FROM notices") == [("deliveries_given_up", endpoint)]


def test_an_old_delivery_that_waits_to_be_sent_by_hand_goes_back_to_what_it_was(history: History, now: UnixMs) -> None:
    endpoint = history.endpoint("paused")
    for status in ("succeeded", "exhausted", "canceled"):
        history.events(endpoint, 1, at=now - 85 * MS_PER_DAY, status=status)
    query(
        history.url,
        "UPDATE deliveries SET fallback_status = status, status = 'pending', finished_at = NULL, due_at = ?",
        now,
    )
    run_jobs(history.url, now)
    assert sorted(query(history.url, "SELECT status FROM deliveries")) == [
        ("canceled",),
        ("exhausted",),
        ("succeeded",),
    ]


def test_what_is_being_sent_is_left_to_whoever_sends_it(history: History, now: UnixMs) -> None:
    endpoint = history.endpoint()
    [event] = history.events(endpoint, 1, at=now - 95 * MS_PER_DAY, status="pending")
    query(history.url, "INSERT INTO workers VALUES ('wrk_1', 'h', 1, 1, ?)", now + MS_PER_DAY)
    query(history.url, "INSERT INTO leases VALUES (?, 'wrk_1', ?, 1, 1)", delivery_id(event, endpoint), endpoint)
    run_jobs(history.url, now)
    assert query(history.url, "SELECT status FROM deliveries") == [("pending",)]
    assert count(history.url, "events") == count(history.url, "leases") == 1


def test_a_lease_of_a_worker_that_nobody_knows_is_freed(history: History, now: UnixMs) -> None:
    endpoint = history.endpoint()
    [event] = history.events(endpoint, 1, at=now, status="pending")
    query(
        history.url, "INSERT INTO leases VALUES (?, 'wrk_gone', ?, 1, ?)", delivery_id(event, endpoint), endpoint, now
    )
    run_jobs(history.url, now)
    assert count(history.url, "leases") == 0
    assert query(history.url, "SELECT status, attempts, outcome FROM deliveries") == [("pending", 1, "interrupted")]
    assert query(history.url, "SELECT outcome FROM attempts") == [("interrupted",)]


def test_expired_answers_secrets_old_notices_replays_and_what_deleted_endpoints_leave_are_removed(
    history: History, now: UnixMs
) -> None:
    kept, gone = history.endpoint(), history.endpoint()
    with transaction(history.url) as connection:
        for key, age in (("old", MS_PER_DAY), ("new", MS_PER_DAY - 1_000)):
            results = {key: IdempotentResult(b"f", 201, b"{}")}
            unit_on(connection).idempotency.store(ACCOUNT, results, now - age)
        for n, age in enumerate((91, 89)):
            made_at = now - age * MS_PER_DAY
            connection.execute(
                "INSERT INTO notices VALUES (?, ?, ?, 'endpoint_failing', '', ?)",
                (floor("ntc", made_at), ACCOUNT, kept, made_at),
            )
            for status in ("done", "running"):
                connection.execute(
                    "INSERT INTO replays (id, account_id, endpoint_id, since, until, statuses, status, created_at,"
                    " finished_at) VALUES (?, ?, ?, 1, 2, '', ?, ?, ?)",
                    (floor("rpl", made_at + (status == "done")), ACCOUNT, kept, status, made_at,
                     made_at if status == "done" else None),
                )  # fmt: skip
            connection.execute(
                "INSERT INTO endpoint_secrets (endpoint_id, version, sealed, created_at, expires_at) VALUES (?, ?, ?, 1, ?)",
                (kept, n + 2, b"s", now + n),
            )
        for endpoint in (kept, gone):
            connection.execute("INSERT INTO endpoint_health VALUES (?, 1, 1, 0, NULL, NULL, 0)", (endpoint,))
        connection.execute("UPDATE endpoints SET deleted_at = ? WHERE id = ?", (now, gone))
    run_jobs(history.url, now)
    assert query(history.url, "SELECT key FROM idempotency_keys") == [("new",)]
    assert query(history.url, "SELECT created_at FROM notices") == [(now - 89 * MS_PER_DAY,)]
    assert count(history.url, "replays") == 3
    assert query(history.url, "SELECT endpoint_id, version FROM endpoint_secrets ORDER BY version") == [
        (kept, 1),
        (kept, 3),
    ]
    assert query(history.url, "SELECT endpoint_id FROM endpoint_health") == [(kept,)]


# -- nobody waits ----------------------------------------------------------------------------------------------------


class Measured:
    """A database that notes how many rows each transaction of the upkeep changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.pieces: list[int] = []

    async def read(self, work: Callable[[Connection], Any], writer: WriterName = "ingest") -> Any:
        return await self._database.read(work, writer)

    async def write(self, work: Callable[[Connection], Any], writer: WriterName = "ingest") -> Any:
        result = await self._database.write(work, writer)
        if writer == "upkeep" and isinstance(result, tuple) and type(result[0]) is int:
            self.pieces.append(result[0])
        return result


async def deliver(store: DatabaseDeliveryStore, endpoint: str, now: UnixMs, clock: VirtualClock) -> int:
    """Claim and settle until nothing is due; how many it were."""
    await store.register("wrk_1", ttl_ms=10**9)
    sent = 0
    while claimed := (await store.claim("wrk_1", [ClaimRequest(endpoint, 20)], now, closing_since=0)).claimed:
        settlements = [
            Settlement(
                each,
                DeliveryStatus.SUCCEEDED,
                now,
                Attempt(each.attempt_number, now, OutcomeCode.SUCCEEDED, "", (), None, None, None),
            )
            for each in claimed
        ]
        sent += len((await store.settle("wrk_1", settlements, now, longest_probe_s=60)).held)
    await store.release("wrk_1")
    return sent


def deliver_while_sweeping(history: History, now: UnixMs) -> list[int]:
    """2,000 deliveries while more than 100,000 old rows go; how many went in each transaction of the upkeep."""
    endpoint = history.endpoint()
    history.events(endpoint, 33_400, at=partitions.week_start(now - 110 * MS_PER_DAY))
    history.events(endpoint, 2_000, at=now, status="pending")

    async def use(database: Database) -> tuple[int, list[int]]:
        measured: Any = Measured(database)
        clock = VirtualClock(now)
        deliveries = DatabaseDeliveryStore(database, VAULT, clock, IdFactory(clock, random.Random(7)))
        sent, _ = await asyncio.gather(deliver(deliveries, endpoint, now, clock), Jobs(measured, now).run())
        return sent, measured.pieces

    sent, pieces = asyncio.run(opened(history.url, use))
    assert sent == 2_000
    assert counts(history.url) == (2_000, 2_000, 2_000)
    assert count(history.url, "deliveries", "status = 'succeeded'") == 2_000
    return list(pieces)


def test_deliveries_go_on_while_a_hundred_thousand_old_rows_are_removed_in_small_pieces(
    history: History, now: UnixMs
) -> None:
    pieces = deliver_while_sweeping(history, now)
    assert max(pieces) == 200
    assert sum(pieces) == 3 * 33_400


def test_deliveries_go_on_while_weeks_are_dropped_row_by_row_nothing_is_removed(
    databases: Databases, now: UnixMs
) -> None:
    history = History(databases.fresh("postgres"), now)
    with transaction(history.url) as connection:
        for table in ("attempts", "deliveries_done", "events"):
            assert partitions.create(connection, Week(table, partitions.week_start(now - 110 * MS_PER_DAY)))
    assert sum(deliver_while_sweeping(history, now)) == 0


# -- PostgreSQL's partitions -----------------------------------------------------------------------------------------


def names(url: str, table: str) -> list[str]:
    return [
        name
        for (name,) in query(
            url,
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = ?::regclass AND c.relname NOT LIKE '%_default' ORDER BY 1",
            table,
        )
    ]


@pytest.fixture
def postgres_url(databases: Databases) -> str:
    return databases.fresh("postgres")


def test_weeks_begin_on_monday_and_their_ids_are_a_range() -> None:
    week = Week("events", partitions.week_start(1_795_536_000_000))  # 2026-11-24, a Tuesday
    assert week.name == "events_20261123"
    assert week.bounds == (floor("evt", week.start), floor("evt", week.start + 7 * MS_PER_DAY))
    assert partitions.week_start(week.start) == week.start
    assert partitions.week_start(week.start - 1) == week.start - 7 * MS_PER_DAY


def test_a_migrated_database_has_last_week_and_three_to_come_and_new_rows_go_there(
    postgres_url: str, now: UnixMs
) -> None:
    history = History(postgres_url, now)
    for table in ("events", "attempts", "deliveries_done"):
        assert names(postgres_url, table) == [week.name for week in partitions.wanted(now) if week.table == table]
    history.events(history.endpoint(), 3, at=now)
    for table in ("events_default", "attempts_default", "deliveries_done_default"):
        assert count(postgres_url, table) == 0


def test_partitions_are_made_as_time_goes_on_and_dropped_when_all_of_them_is_old(
    postgres_url: str, now: UnixMs
) -> None:
    history = History(postgres_url, now - 95 * MS_PER_DAY)
    with transaction(postgres_url) as connection:
        past = partitions.week_start(history.now)
        for table in ("attempts", "deliveries_done", "events"):
            for n in range(3):
                partitions.create(connection, Week(table, past + n * partitions.WEEK_MS))
    endpoint = history.endpoint()
    for days in (95, 85):
        history.events(endpoint, 4, at=now - days * MS_PER_DAY)
    before = names(postgres_url, "events")
    run_jobs(postgres_url, now)
    after = names(postgres_url, "events")
    dropped = [name for name in before if name not in after]
    assert dropped == [
        week.name
        for n in range(3)
        if (week := Week("events", past + n * partitions.WEEK_MS)).start + partitions.WEEK_MS <= now - 90 * MS_PER_DAY
    ]
    assert count(postgres_url, "events", f"id >= '{floor('evt', now - 90 * MS_PER_DAY)}'") == 4
    run_jobs(postgres_url, now + 21 * MS_PER_DAY, "partitions")
    assert names(postgres_url, "events")[-1] == partitions.wanted(now + 21 * MS_PER_DAY)[-1].name


def test_a_week_whose_rows_already_stand_in_the_default_partition_is_not_made(postgres_url: str, now: UnixMs) -> None:
    history = History(postgres_url, now)
    later = now + 50 * MS_PER_DAY
    history.events(history.endpoint(), 3, at=later)
    run_jobs(postgres_url, later, "partitions")
    made = names(postgres_url, "events")
    assert Week("events", partitions.week_start(later)).name not in made
    assert Week("events", partitions.week_start(later) + partitions.WEEK_MS).name in made
    assert count(postgres_url, "events_default") == 3


def test_a_partition_that_still_has_a_delivery_keeps_its_events(postgres_url: str, now: UnixMs) -> None:
    history = History(postgres_url, now)
    past = partitions.week_start(now - 120 * MS_PER_DAY)
    with transaction(postgres_url) as connection:
        for table in ("attempts", "deliveries_done", "events"):
            partitions.create(connection, Week(table, past))
    endpoint = history.endpoint("paused")
    history.events(endpoint, 3, at=past)
    [owed] = history.events(endpoint, 1, at=past + 1, status="pending")
    query(postgres_url, "UPDATE deliveries SET first_attempt_at = ? WHERE status = 'pending'", now)
    run_jobs(postgres_url, now)
    assert Week("events", past).name in names(postgres_url, "events")
    assert Week("attempts", past).name not in names(postgres_url, "attempts")
    assert query(postgres_url, "SELECT event_id, status FROM deliveries") == [(owed, "pending")]
    run_jobs(postgres_url, now + 4 * MS_PER_DAY)
    assert Week("events", past).name not in names(postgres_url, "events")
    assert counts(postgres_url) == (0, 0, 0)


def test_a_table_that_is_in_use_is_left_for_the_next_sweep_and_nobody_else_waits(
    postgres_url: str, now: UnixMs
) -> None:
    history = History(postgres_url, now)
    past = partitions.week_start(now - 120 * MS_PER_DAY)
    with transaction(postgres_url) as connection:
        partitions.create(connection, Week("events", past))
    endpoint = history.endpoint()
    history.events(endpoint, 100, at=now, status="pending")

    async def use(database: Database) -> int:
        clock = VirtualClock(now)
        deliveries = DatabaseDeliveryStore(database, VAULT, clock, IdFactory(clock, random.Random(7)))
        with psycopg.connect(postgres_url) as reader:
            reader.execute("SELECT COUNT(*) FROM events")  # and its transaction stays open
            with pytest.raises(LockTaken):
                await database.write(
                    lambda connection: partitions.drop(connection, Week("events", past)), writer="upkeep"
                )
            _, sent = await asyncio.gather(
                Jobs(database, now).run("partitions"), deliver(deliveries, endpoint, now, clock)
            )
        assert Week("events", past).name in names(postgres_url, "events")
        await Jobs(database, now).run("partitions")
        return sent

    assert asyncio.run(opened(postgres_url, use)) == 100
    assert Week("events", past).name not in names(postgres_url, "events")


def test_two_processes_tend_the_partitions_at_once(postgres_url: str, now: UnixMs) -> None:
    later = now + 70 * MS_PER_DAY

    async def main() -> None:
        both = [open_database(postgres_url, SystemClock()) for _ in range(2)]
        for database in both:
            await database.start()
        await asyncio.gather(*(Jobs(database, later).run("partitions") for database in both))
        for database in both:
            await database.stop()

    asyncio.run(main())
    assert set(names(postgres_url, "events")) >= {
        week.name for week in partitions.wanted(later) if week.table == "events"
    }


def test_a_host_whose_clock_is_far_ahead_removes_nothing(postgres_url: str, now: UnixMs) -> None:
    history = History(postgres_url, now)
    history.events(history.endpoint(), 3, at=now)
    run_jobs(postgres_url, now + 400 * MS_PER_DAY)
    assert counts(postgres_url) == (3, 3, 3)


def test_replaying_waits_for_an_event_that_is_going(postgres_url: str, now: UnixMs) -> None:
    """Whoever makes a delivery of an old event has read the event before: then the week stays."""
    history = History(postgres_url, now)
    past = partitions.week_start(now - 120 * MS_PER_DAY)
    with transaction(postgres_url) as connection:
        partitions.create(connection, Week("events", past))
    endpoint = history.endpoint()
    [event] = history.events(endpoint, 1, at=past)
    run_jobs(postgres_url, now, "retention")
    query(postgres_url, "DELETE FROM deliveries")
    replay, upkeep = connect(postgres_url), connect(postgres_url)
    replay.begin()
    assert replay.execute("SELECT body FROM events WHERE id = ?", (event,))
    upkeep.begin()
    with pytest.raises(LockTaken):
        partitions.drop(upkeep, Week("events", past))
    upkeep.rollback()
    replay.execute(
        "INSERT INTO deliveries (id, account_id, endpoint_id, event_id, event_type, status, due_at, created_at)"
        " VALUES (?, ?, ?, ?, 'points.earned', 'pending', ?, ?)",
        (delivery_id(event, endpoint), ACCOUNT, endpoint, event, now, now),
    )
    replay.commit()
    upkeep.begin()
    assert not partitions.drop(upkeep, Week("events", past))
    upkeep.rollback()
    replay.close()
    upkeep.close()


class Meddled:
    """A connection beside which something happens just before it takes a lock."""

    dialect = POSTGRES

    def __init__(self, inner: DriverConnection, meddle: Callable[[], object]) -> None:
        self._inner = inner
        self._meddle = meddle

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        if sql.startswith("SET LOCAL lock_timeout"):
            self._meddle()
        return self._inner.execute(sql, params)


@pytest.mark.parametrize("act", ["make", "drop"])
def test_what_comes_between_the_look_and_the_lock_is_seen(postgres_url: str, now: UnixMs, act: str) -> None:
    history = History(postgres_url, now)
    week = Week("events", partitions.week_start(now - 120 * MS_PER_DAY))
    endpoint = history.endpoint()
    if act == "drop":
        with transaction(postgres_url) as connection:
            partitions.create(connection, week)
    upkeep = connect(postgres_url)
    upkeep.begin()
    meddled: Any = Meddled(upkeep, lambda: history.events(endpoint, 1, at=week.start, status="pending"))
    assert not (partitions.create if act == "make" else partitions.drop)(meddled, week)
    upkeep.commit()
    upkeep.close()
    assert (week.name in names(postgres_url, "events")) == (act == "drop")
    assert count(postgres_url, "events") == 1
