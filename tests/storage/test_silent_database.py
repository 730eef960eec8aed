"""A database that gives no answer: callers get an error in time, and a stop does not wait for it."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from loyalpro.kernel.clock import SystemClock, VirtualClock
from loyalpro.kernel.errors import CommitUnknown, StoreUnavailable
from loyalpro.storage import threads
from loyalpro.storage.answers import Answers, CallLimit
from loyalpro.storage.connection import Connection
from loyalpro.storage.open import open_database
from loyalpro.storage.postgres.connection import PostgresConnection
from loyalpro.storage.postgres.session import SessionKind
from loyalpro.storage.readers import Readers
from loyalpro.storage.writer import GroupWriter
from support.databases import Databases
from support.history import connect
from support.postgres import OwnCluster, embedded_binaries, system_binaries
from support.proxy import FreezingProxy
from support.waiting import until
from support.writes import Held, insert, names

CANCEL_WAIT = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
HASTY = SessionKind(statement_limit_s=None, answer_limit_s=0.5)


def test_a_thread_is_silent_when_it_has_waited_too_long_for_its_first_answer() -> None:
    clock = VirtualClock()
    thread = Answers(clock, silent_after_s=5)

    def is_silent() -> bool:
        return thread.is_silent

    clock.advance(60)
    assert not is_silent(), "an idle thread waits for nothing"
    thread.wait()
    clock.advance(4)
    thread.wait()
    assert not is_silent()
    clock.advance(2)
    assert is_silent(), "a second question does not start anew"
    thread.got(more=True)
    assert not is_silent()
    assert thread.last_s == clock.monotonic_s()
    clock.advance(6)
    assert is_silent()
    thread.got()
    clock.advance(60)
    assert not is_silent()


@contextmanager
def writer_of(url: str, call_limit: CallLimit) -> Iterator[GroupWriter]:
    writer = GroupWriter(lambda: connect(url), Answers(SystemClock()), call_limit, name="writer", max_group_size=1)
    writer.start()
    yield writer
    assert threads.stop([writer], SystemClock())


def test_the_caller_of_a_write_that_hangs_learns_that_its_outcome_is_unknown(database_url: str) -> None:
    async def use(writer: GroupWriter) -> None:
        held = Held()
        hangs = asyncio.create_task(writer.submit(held))
        await held.under_way()
        queued = asyncio.create_task(writer.submit(insert("queued")))
        with pytest.raises(CommitUnknown, match="Idempotency-Key"):
            await hangs
        with pytest.raises(StoreUnavailable, match="nothing was written"):
            await queued
        held.go.set()

    with writer_of(database_url, CallLimit(lambda: False, limit_s=0.2)) as writer:
        asyncio.run(use(writer))
    connection = connect(database_url)
    assert names(connection) == {"held"}, "what was not begun when its caller gave up is never written"
    connection.close()


def test_a_caller_does_not_wait_for_its_limit_once_the_database_is_silent(database_url: str) -> None:
    silent = threading.Event()

    async def use(writer: GroupWriter) -> None:
        held = Held()
        hangs = asyncio.create_task(writer.submit(held))
        await held.under_way()
        silent.set()
        with pytest.raises(CommitUnknown):
            await hangs
        held.go.set()

    with writer_of(database_url, CallLimit(silent.is_set, limit_s=1_000)) as writer:
        asyncio.run(use(writer))


def test_a_read_that_hangs_ends_for_its_caller_and_for_those_behind_it(database_url: str) -> None:
    go, ran = threading.Event(), threading.Event()

    def mark(_: Connection) -> None:
        ran.set()

    async def use(readers: Readers) -> None:
        reads = [asyncio.create_task(readers.run(work)) for work in (lambda _: go.wait(60), mark)]
        for each in reads:
            with pytest.raises(StoreUnavailable):
                await each
        go.set()
        assert await readers.run(lambda connection: connection.execute("SELECT 1")) == [(1,)]

    readers = Readers(lambda: connect(database_url), CallLimit(lambda: False, limit_s=0.5), count=1)
    asyncio.run(use(readers))
    assert threads.stop([readers], SystemClock())
    assert not ran.is_set(), "its caller had given up"


def test_a_stop_does_not_wait_for_threads_that_hang(databases: Databases, store: str) -> None:
    held, go = Held(), threading.Event()
    database = open_database(databases.fresh(store), SystemClock())

    async def main() -> None:
        await database.start()
        tasks = [asyncio.create_task(each) for each in (database.write(held), database.read(lambda _: go.wait(60)))]
        await held.under_way()
        await database.stop()
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(asyncio.wait_for(main(), 25))
    held.go.set()
    go.set()
    asyncio.run(database.stop())  # closes the connections that the threads were using


ENDS = """
import asyncio, os, sys
from pathlib import Path
from loyalpro.storage.sqlite.disk_space import FolderDiskSpace

async def main():
    database = Path(sys.argv[1]) / "loyalpro.db"
    os.mkfifo(database.with_name("loyalpro.db.reserve"))  # to open it hangs, as on a disk that does
    checking = asyncio.create_task(FolderDiskSpace(database, 1).check(0))
    done, _ = await asyncio.wait([checking], timeout=0.5)
    assert not done

asyncio.run(main())
print("ended")
"""


def test_a_process_ends_although_its_disk_hangs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


def statement(connection: PostgresConnection) -> None:
    connection.execute("SELECT 1")


def pipeline(connection: PostgresConnection) -> None:
    connection.execute_all([("SELECT 1", ())] * 3)


def transaction(connection: PostgresConnection) -> None:
    connection.begin()
    insert("a")(connection)


def script(connection: PostgresConnection) -> None:
    connection.run_script("SELECT 1; SELECT 2")


@pytest.mark.parametrize("use", [statement, pipeline, transaction, script, PostgresConnection.check])
def test_a_connection_to_a_frozen_server_gives_up(
    databases: Databases, use: Callable[[PostgresConnection], None]
) -> None:
    with FreezingProxy(databases.fresh("postgres")) as proxy:
        connection = PostgresConnection(proxy.url, read_only=False, kind=HASTY)
        proxy.freeze()
        with pytest.raises(StoreUnavailable, match="nothing was written"):
            use(connection)
        connection.rollback()
        connection.close()


def test_a_commit_that_a_frozen_server_does_not_answer_is_unknown(databases: Databases) -> None:
    with FreezingProxy(databases.fresh("postgres")) as proxy:
        connection = PostgresConnection(proxy.url, read_only=False, kind=HASTY)
        transaction(connection)
        connection.flush()
        proxy.freeze()
        with pytest.raises(CommitUnknown):
            connection.commit()
        connection.rollback()
        connection.close()


def test_a_connection_attempt_to_a_frozen_server_ends(databases: Databases) -> None:
    with FreezingProxy(databases.fresh("postgres")) as proxy:
        proxy.freeze()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            PostgresConnection(proxy.url, read_only=True)


def test_a_write_that_is_under_way_when_the_server_freezes_is_unknown_and_the_next_ones_are_refused_at_once(
    databases: Databases,
) -> None:
    with FreezingProxy(databases.fresh("postgres")) as proxy:
        database = open_database(proxy.url, SystemClock())

        def available() -> bool:
            return database.available

        async def main() -> None:
            await database.start()
            before_s = database.answered_s
            await database.write(insert("before"))
            assert database.answered_s >= before_s
            held = Held()
            unknown = asyncio.create_task(database.write(held))
            await held.under_way()
            proxy.freeze()
            held.go.set()
            with pytest.raises((CommitUnknown, StoreUnavailable)):
                await unknown
            assert not available()
            calls: list[Any] = [database.write(insert("a")), database.read(names), database.lookup(names)]
            for call in calls:
                with pytest.raises(StoreUnavailable):
                    await call
            proxy.thaw()
            await asyncio.to_thread(until, available)
            await database.write(insert("after"))
            assert {"before", "after"} <= await database.read(names)
            await database.stop()

        asyncio.run(asyncio.wait_for(main(), 100))


@pytest.fixture
def cluster() -> Iterator[OwnCluster]:
    """A server whose configuration the test may change."""
    binaries = system_binaries() or embedded_binaries()
    assert binaries is not None
    own = OwnCluster(binaries)
    yield own
    own.stop()


def test_a_commit_whose_wait_for_the_standby_is_canceled_is_unknown(cluster: OwnCluster) -> None:
    """PostgreSQL reports such a commit as done, with a warning, although a failover would lose it."""
    url = cluster.create_database("replicated")
    connection = PostgresConnection(url, read_only=False)
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        operator.execute("SELECT pg_reload_conf()")
        until(lambda: operator.execute("SHOW synchronous_standby_names").fetchone() == ("nobody",))
        connection.begin()
        connection.execute("CREATE TABLE t (a INT)")
        canceling = threading.Thread(target=until, args=(lambda: operator.execute(CANCEL_WAIT).fetchone(),))
        canceling.start()
        with pytest.raises(CommitUnknown, match="standby did not confirm"):
            connection.commit()
        canceling.join()
    connection.close()
