"""A PostgreSQL dump that is restored on a server whose transaction counter is lower."""

import asyncio

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.storage.open import migrate_database, open_database
from loyalpro.storage.tables.events import EventTables
from loyalpro.storage.tables.replays import ReplayTables
from loyalpro.webhooks.entities import Replay
from loyalpro.webhooks.replays import continue_replay
from support.databases import Databases
from support.history import ACCOUNT, History, lower_transaction_counter, query, transaction
from support.units import unit_on

NOW = SystemClock().now_ms()
OLD = (900_000_002, 900_000_001, 900_000_003)
"""Transaction ids of events, by position: the second transaction began before the first."""


@pytest.fixture
def history(databases: Databases) -> History:
    return History(databases.fresh("postgres"), NOW)


def start(url: str, processes: int = 1) -> None:
    async def main() -> None:
        databases = [open_database(url, SystemClock()) for _ in range(processes)]
        await asyncio.gather(*(each.start() for each in databases))
        await asyncio.gather(*(each.stop() for each in databases))

    asyncio.run(main())


def restore(history: History) -> list[str]:
    """Insert events as another server wrote them; their ids in the order of events."""
    ids = [history.ids.new("evt") for _ in OLD]
    for id_, transaction_id in zip(ids, OLD, strict=True):
        query(
            history.url,
            "INSERT INTO events (transaction_id, id, account_id, type, created_at, owed, body)"
            f" VALUES ('{transaction_id}', ?, ?, 'points.earned', ?, 0, '{{}}')",
            *(id_, ACCOUNT, NOW),
        )
    return [id_ for _, id_ in sorted(zip(OLD, ids, strict=True))]


def emit(history: History) -> str:
    id_ = history.ids.new("evt")
    query(
        history.url,
        "INSERT INTO events (id, account_id, type, created_at, owed, body) VALUES (?, ?, 'points.earned', ?, 0, '{}')",
        *(id_, ACCOUNT, NOW),
    )
    return id_


def after(history: History, event_id: str | None) -> list[str]:
    with transaction(history.url) as connection:
        found = EventTables(connection).list_after(ACCOUNT, event_id, 100)
    return [each.id for each in found]


def add_replay(history: History) -> str:
    endpoint, id_ = history.endpoint("paused"), history.ids.new("rpl")
    with transaction(history.url) as connection:
        replay = Replay(id_, ACCOUNT, endpoint, 0, NOW, None, ("missing",), "running", "", 0, 0, NOW, None)
        ReplayTables(connection).insert(replay)
    return id_


def run_step(history: History, replay_id: str) -> tuple[str, int]:
    """Run one step of a replay; its status, and how many events it has examined."""
    with transaction(history.url) as connection:
        continue_replay(unit_on(connection), replay_id)
    [(status, examined)] = query(history.url, "SELECT status, examined FROM replays WHERE id = ?", replay_id)
    return status, examined


def offset_source(history: History) -> str:
    """The body of the SQL function that adds the offset to transaction ids."""
    [(source,)] = query(history.url, "SELECT prosrc FROM pg_proc WHERE proname = 'lasting_transaction_id'")
    return str(source)


def test_restored_events_keep_their_order_and_come_before_new_ones(history: History) -> None:
    expected = restore(history)
    start(history.url)
    for _ in range(3):
        expected.append(emit(history))
    assert after(history, None) == expected
    for position, id_ in enumerate(expected, 1):
        assert after(history, id_) == expected[position:]


def test_a_database_can_be_restored_several_times(history: History) -> None:
    expected = restore(history)
    for _ in range(3):
        start(history.url)
        expected.append(emit(history))
        lower_transaction_counter(history.url)
    assert migrate_database(history.url, SystemClock()) == []
    expected.append(emit(history))
    assert after(history, None) == expected


def test_processes_that_start_at_the_same_time_agree_on_the_offset(history: History) -> None:
    expected = restore(history)
    start(history.url, processes=4)
    expected.append(emit(history))
    assert after(history, None) == expected


def test_the_offset_stays_as_long_as_the_server_stays(history: History) -> None:
    original = offset_source(history)
    emit(history)
    start(history.url)
    assert offset_source(history) == original
    restore(history)
    start(history.url)
    advanced = offset_source(history)
    emit(history)
    start(history.url, processes=2)
    assert offset_source(history) == advanced != original


def test_pollers_and_replays_wait_for_open_transactions_of_the_new_server(history: History) -> None:
    restore(history)
    start(history.url)
    last = after(history, None)[-1]
    with transaction(history.url) as late:
        late.execute("SELECT pg_current_xact_id()")
        job, new = add_replay(history), emit(history)
        assert after(history, last) == []
        assert run_step(history, job) == ("running", len(OLD))
    assert after(history, last) == [new]
    assert run_step(history, job) == ("done", len(OLD) + 1)


def test_a_replay_continues_after_the_restore(history: History) -> None:
    history.events(history.endpoint(), 250, at=NOW - 1)
    job = add_replay(history)
    assert run_step(history, job) == ("running", 200)
    lower_transaction_counter(history.url)
    start(history.url)
    assert run_step(history, job) == ("done", 250)
