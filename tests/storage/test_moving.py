"""A PostgreSQL database that was dumped and restored on a server that counts its transactions from lower."""

import asyncio

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.storage.open import migrate_database, open_database
from loyalpro.storage.tables.events import EventTables
from loyalpro.storage.tables.replays import ReplayTables
from loyalpro.webhooks.entities import Replay
from loyalpro.webhooks.replays import continue_replay
from support.databases import Databases
from support.history import ACCOUNT, History, count_from_lower, query, transaction
from support.units import unit_on

NOW = SystemClock().now_ms()
OLD = (900_000_002, 900_000_001, 900_000_003)
"""The transactions of events, by position: the second was begun before the first."""


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
    """Events of another server, in their order."""
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


def work(history: History, replay_id: str) -> tuple[str, int]:
    """Do a piece; the job's status, and how many events it has examined."""
    with transaction(history.url) as connection:
        continue_replay(unit_on(connection), replay_id)
    [(status, examined)] = query(history.url, "SELECT status, examined FROM replays WHERE id = ?", replay_id)
    return status, examined


def counting(history: History) -> str:
    """How the server's transactions are counted for the order of events."""
    [(source,)] = query(history.url, "SELECT prosrc FROM pg_proc WHERE proname = 'lasting_transaction_id'")
    return str(source)


def test_what_was_restored_keeps_its_order_and_stands_before_what_is_new(history: History) -> None:
    expected = restore(history)
    start(history.url)
    for _ in range(3):
        expected.append(emit(history))
    assert after(history, None) == expected
    for place, id_ in enumerate(expected, 1):
        assert after(history, id_) == expected[place:]


def test_a_database_can_move_again_and_again(history: History) -> None:
    expected = restore(history)
    for _ in range(3):
        start(history.url)
        expected.append(emit(history))
        count_from_lower(history.url)
    assert migrate_database(history.url, SystemClock()) == []
    expected.append(emit(history))
    assert after(history, None) == expected


def test_processes_that_start_at_once_agree(history: History) -> None:
    expected = restore(history)
    start(history.url, processes=4)
    expected.append(emit(history))
    assert after(history, None) == expected


def test_a_database_that_stays_where_it_is_keeps_its_count(history: History) -> None:
    as_made = counting(history)
    emit(history)
    start(history.url)
    assert counting(history) == as_made
    restore(history)
    start(history.url)
    moved = counting(history)
    emit(history)
    start(history.url, processes=2)
    assert counting(history) == moved != as_made


def test_what_is_open_on_the_new_server_is_waited_for(history: History) -> None:
    restore(history)
    start(history.url)
    last = after(history, None)[-1]
    with transaction(history.url) as late:
        late.execute("SELECT pg_current_xact_id()")
        job, new = add_replay(history), emit(history)
        assert after(history, last) == []
        assert work(history, job) == ("running", len(OLD))
    assert after(history, last) == [new]
    assert work(history, job) == ("done", len(OLD) + 1)


def test_a_replay_that_ran_on_the_old_server_goes_on(history: History) -> None:
    history.events(history.endpoint(), 250, at=NOW - 1)
    job = add_replay(history)
    assert work(history, job) == ("running", 200)
    count_from_lower(history.url)
    start(history.url)
    assert work(history, job) == ("done", 250)
