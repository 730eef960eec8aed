"""The weekly partitions of PostgreSQL: how they are created and dropped."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest

from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs, VirtualClock
from loyalpro.kernel.errors import LockTaken
from loyalpro.kernel.ids import IdFactory, delivery_id, floor
from loyalpro.storage.connection import DriverConnection, Row
from loyalpro.storage.database import Database
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.dialect import POSTGRES
from loyalpro.storage.open import open_database
from loyalpro.storage.postgres import partitions
from loyalpro.storage.postgres.partitions import Week
from support.databases import Databases
from support.history import ACCOUNT, VAULT, History, connect, count, query, transaction
from support.jobs import Jobs, opened, run_jobs
from support.retention import counts, deliver


@pytest.fixture
def now() -> UnixMs:
    return SystemClock().now_ms()


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


def test_a_week_begins_on_monday_and_has_a_range_of_ids() -> None:
    week = Week("events", partitions.week_start(1_795_536_000_000))  # 2026-11-24, a Tuesday
    assert week.name == "events_20261123"
    assert week.bounds == (floor("evt", week.start), floor("evt", week.start + 7 * MS_PER_DAY))
    assert partitions.week_start(week.start) == week.start
    assert partitions.week_start(week.start - 1) == week.start - 7 * MS_PER_DAY


def test_a_migrated_database_has_partitions_for_last_week_and_three_weeks_ahead(postgres_url: str, now: UnixMs) -> None:
    history = History(postgres_url, now)
    for table in ("events", "attempts", "deliveries_done"):
        assert names(postgres_url, table) == [week.name for week in partitions.wanted(now) if week.table == table]
    history.events(history.endpoint(), 3, at=now)
    for table in ("events_default", "attempts_default", "deliveries_done_default"):
        assert count(postgres_url, table) == 0


def test_partitions_are_created_over_time_and_dropped_when_all_their_rows_are_old(
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


def test_a_partition_whose_rows_are_already_in_the_default_partition_is_not_created(
    postgres_url: str, now: UnixMs
) -> None:
    history = History(postgres_url, now)
    later = now + 50 * MS_PER_DAY
    history.events(history.endpoint(), 3, at=later)
    run_jobs(postgres_url, later, "partitions")
    made = names(postgres_url, "events")
    assert Week("events", partitions.week_start(later)).name not in made
    assert Week("events", partitions.week_start(later) + partitions.WEEK_MS).name in made
    assert count(postgres_url, "events_default") == 3


def test_a_partition_of_events_with_a_pending_delivery_is_kept(postgres_url: str, now: UnixMs) -> None:
    history = History(postgres_url, now)
    past = partitions.week_start(now - 120 * MS_PER_DAY)
    with transaction(postgres_url) as connection:
        for table in ("attempts", "deliveries_done", "events"):
            partitions.create(connection, Week(table, past))
    endpoint = history.endpoint("paused")
    history.events(endpoint, 3, at=past)
    [pending] = history.events(endpoint, 1, at=past + 1, status="pending")
    query(postgres_url, "UPDATE deliveries SET first_attempt_at = ? WHERE status = 'pending'", now)
    run_jobs(postgres_url, now)
    assert Week("events", past).name in names(postgres_url, "events")
    assert Week("attempts", past).name not in names(postgres_url, "attempts")
    assert query(postgres_url, "SELECT event_id, status FROM deliveries") == [(pending, "pending")]
    run_jobs(postgres_url, now + 4 * MS_PER_DAY)
    assert Week("events", past).name not in names(postgres_url, "events")
    assert counts(postgres_url) == (0, 0, 0)


def test_a_table_in_use_is_left_for_the_next_run_and_delays_no_delivery(postgres_url: str, now: UnixMs) -> None:
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
            reader.execute("SELECT COUNT(*) FROM events")  # the transaction stays open
            with pytest.raises(LockTaken):
                await database.write(
                    lambda connection: partitions.drop(connection, Week("events", past)), writer="upkeep"
                )
            _, sent = await asyncio.gather(Jobs(database, now).run("partitions"), deliver(deliveries, endpoint, now))
        assert Week("events", past).name in names(postgres_url, "events")
        await Jobs(database, now).run("partitions")
        return sent

    assert asyncio.run(opened(postgres_url, use)) == 100
    assert Week("events", past).name not in names(postgres_url, "events")


def test_two_processes_maintain_the_partitions_at_once(postgres_url: str, now: UnixMs) -> None:
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


def test_a_partition_with_an_event_that_a_replay_reads_is_not_dropped(postgres_url: str, now: UnixMs) -> None:
    """A transaction that makes a delivery of an old event has read the event, and its lock keeps the partition."""
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


class ConnectionWithRival:
    """A connection that calls `rival` just before it takes a lock."""

    dialect = POSTGRES

    def __init__(self, inner: DriverConnection, rival: Callable[[], object]) -> None:
        self._inner = inner
        self._rival = rival

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        if sql.startswith("SET LOCAL lock_timeout"):
            self._rival()
        return self._inner.execute(sql, params)


@pytest.mark.parametrize("act", ["make", "drop"])
def test_a_row_that_is_inserted_between_the_check_and_the_lock_keeps_the_partition_as_it_is(
    postgres_url: str, now: UnixMs, act: str
) -> None:
    history = History(postgres_url, now)
    week = Week("events", partitions.week_start(now - 120 * MS_PER_DAY))
    endpoint = history.endpoint()
    if act == "drop":
        with transaction(postgres_url) as connection:
            partitions.create(connection, week)
    upkeep = connect(postgres_url)
    upkeep.begin()
    with_rival: Any = ConnectionWithRival(upkeep, lambda: history.events(endpoint, 1, at=week.start, status="pending"))
    assert not (partitions.create if act == "make" else partitions.drop)(with_rival, week)
    upkeep.commit()
    upkeep.close()
    assert (week.name in names(postgres_url, "events")) == (act == "drop")
    assert count(postgres_url, "events") == 1
