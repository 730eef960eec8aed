"""Groups of writes: durable before their results are returned, and an error fails its own write alone."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import CommitUnknown, ConfigurationError, StoreUnavailable
from loyalpro.storage import threads
from loyalpro.storage.answers import Answers, CallLimit
from loyalpro.storage.connection import Connection, DriverConnection, RetryTransaction
from loyalpro.storage.open import open_database
from loyalpro.storage.postgres.connection import PostgresConnection
from loyalpro.storage.writer import GroupWriter
from support.databases import Databases
from support.proxy import CuttingProxy
from support.writes import Held, insert, names


def with_database(url: str, use: Callable[[Any], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        database = open_database(url, SystemClock())
        await database.start()
        try:
            return await use(database)
        finally:
            await database.stop()

    return asyncio.run(main())


def test_many_writes_share_few_commits_and_each_returns_its_own_result(database_url: str) -> None:
    async def use(database: Any) -> None:
        wanted = [f"a{n}" for n in range(400)]
        assert await asyncio.gather(*(database.write(insert(name)) for name in wanted)) == wanted
        assert await database.read(names) == set(wanted)
        writer = database._writers["ingest"] if database.dialect.is_postgres else database._writer
        assert writer.group_count <= 40

    with_database(database_url, use)


def test_a_piece_of_a_job_shares_no_transaction_with_what_callers_send(databases: Databases) -> None:
    """They would have to wait for the commit of both. Their own writes, queued meanwhile, still share one."""

    async def use(database: Any) -> None:
        held = Held()
        first = asyncio.create_task(database.write(held))
        await held.under_way()
        kinds = ("ingest", "ingest", "bulk", "ingest", "ingest", "upkeep", "bulk", "ingest")
        queued = [asyncio.create_task(database.write(insert(f"a{n}"), kind)) for n, kind in enumerate(kinds)]
        await asyncio.sleep(0)  # the tasks submit their writes
        before = database._writer.group_count
        held.go.set()
        await asyncio.gather(first, *queued)
        assert await database.read(names) == {"held", *(f"a{n}" for n in range(len(kinds)))}
        assert database._writer.group_count - before == len(["held", "a0 a1", "a2", "a3 a4", "a5", "a6", "a7"])

    with_database(databases.fresh("sqlite"), use)


def test_a_write_that_raises_is_undone_and_fails_alone(database_url: str) -> None:
    def bad(connection: Connection) -> None:
        insert("half")(connection)
        raise ValueError("my own error")

    async def use(database: Any) -> None:
        results = await asyncio.gather(
            database.write(insert("a")), database.write(bad), database.write(insert("b")), return_exceptions=True
        )
        assert [str(each) for each in results] == ["a", "my own error", "b"]
        assert await database.read(names) == {"a", "b"}

    with_database(database_url, use)


def test_a_result_is_returned_after_it_can_be_read(database_url: str) -> None:
    async def use(database: Any) -> None:
        for n in range(30):
            await database.write(insert(f"a{n}"))
            assert f"a{n}" in await database.read(names)

    with_database(database_url, use)


def test_readers_cannot_write(database_url: str) -> None:
    async def use(database: Any) -> None:
        with pytest.raises(Exception, match=r"(?i)read.?only|accepts no writes"):
            await database.read(insert("a"))
        assert await database.read(names) == set()

    with_database(database_url, use)


def test_reads_of_the_engine_do_not_wait_for_reads_of_callers(database_url: str) -> None:
    async def use(database: Any) -> None:
        go = threading.Event()
        slow = [asyncio.create_task(database.read(lambda _: go.wait(30))) for _ in range(20)]
        assert await database.read(lambda connection: connection.execute("SELECT 1"), writer="delivery") == [(1,)]
        assert await database.lookup(lambda connection: connection.execute("SELECT 2")) == [(2,)]
        assert not any(each.done() for each in slow)
        go.set()
        await asyncio.gather(*slow)

    with_database(database_url, use)


def test_a_canceled_caller_does_not_affect_its_group(database_url: str) -> None:
    async def use(database: Any) -> None:
        held = Held()
        first = asyncio.create_task(database.write(held))
        await held.under_way()
        canceled, stays = (asyncio.create_task(database.write(insert(name))) for name in ("canceled", "stays"))
        asyncio.get_running_loop().call_soon(canceled.cancel)  # runs when both are queued and form one group
        await asyncio.gather(canceled, return_exceptions=True)
        held.go.set()
        assert [await first, await asyncio.wait_for(stays, 30)] == ["held", "stays"]
        assert await database.read(names) == {"held", "canceled", "stays"}

    with_database(database_url, use)


def test_a_stop_finishes_the_queued_writes(database_url: str) -> None:
    async def main() -> None:
        database = open_database(database_url, SystemClock())
        await database.start()
        held = Held()
        first = asyncio.create_task(database.write(held))
        await held.under_way()
        tasks = [first, *(asyncio.create_task(database.write(insert(f"a{n}"))) for n in range(50))]
        stopping = asyncio.create_task(database.stop())  # tasks start in order, so all writes are queued before
        asyncio.get_running_loop().call_soon(held.go.set)
        await stopping
        assert len(await asyncio.gather(*tasks)) == 51
        with pytest.raises(StoreUnavailable):
            await database.write(insert("late"))

    asyncio.run(main())


def test_a_lost_connection_is_replaced(databases: Databases) -> None:
    url = databases.fresh("postgres")

    async def use(database: Any) -> None:
        await database.write(insert("before"))
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'loyalpro'")
        with pytest.raises(StoreUnavailable):
            await database.write(insert("lost"))
        await database.write(insert("after"))
        assert database.available
        found: set[str] = set()
        while not found:  # the connections of the readers were cut too: each raises once
            try:
                found = await database.read(names)
            except StoreUnavailable:
                continue
        assert found == {"before", "after"}

    with_database(url, use)


def test_a_lost_connection_is_replaced_without_a_write(databases: Databases) -> None:
    """A load balancer sends no requests to a server that is not ready, so readiness has to return without one."""
    url = databases.fresh("postgres")
    with CuttingProxy(url) as proxy:

        async def use(database: Any) -> None:
            proxy.cut_after_commit()
            with pytest.raises(CommitUnknown):
                await database.write(insert("unknown"))
            async with asyncio.timeout(60):
                while not database.available:
                    await database.read(names)

        with_database(proxy.url, use)


def test_a_lost_answer_to_commit_is_reported_as_unknown(databases: Databases) -> None:
    url = databases.fresh("postgres")
    with CuttingProxy(url) as proxy:

        async def use(database: Any) -> None:
            await database.write(insert("before"))
            proxy.cut_after_commit()
            with pytest.raises(CommitUnknown, match="Idempotency-Key"):
                await database.write(insert("unknown"))
            await database.write(insert("after"))

        with_database(proxy.url, use)
    with psycopg.connect(url) as session:
        assert {name for (name,) in session.execute("SELECT id FROM accounts")} == {"before", "unknown", "after"}


def test_two_processes_that_lock_in_opposite_order_both_succeed(databases: Databases) -> None:
    url = databases.fresh("postgres")

    def update(first: str, second: str) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            for name in (first, second):
                connection.execute("UPDATE accounts SET created_at = created_at + 1 WHERE id = ?", (name,))
                connection.execute("SELECT pg_sleep(0.01)")

        return work

    async def main() -> None:
        one, two = (open_database(url, SystemClock()) for _ in range(2))
        await one.start()
        await two.start()
        try:
            await asyncio.gather(one.write(insert("a")), one.write(insert("b")))
            await asyncio.gather(
                *(one.write(update("a", "b")) for _ in range(5)), *(two.write(update("b", "a")) for _ in range(5))
            )
            rows = await one.read(lambda connection: connection.execute("SELECT created_at FROM accounts"))
            assert rows == [(11,), (11,)]
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(main())


def test_a_write_that_finds_a_lock_taken_is_run_alone_after_its_group(databases: Databases) -> None:
    """A group that waited for it, with its own locks, could wait for a group that waits for those."""
    url = databases.fresh("postgres")
    ran: list[str] = []
    again = threading.Event()

    def touch(name: str) -> Callable[[Connection], str]:
        def work(connection: Connection) -> str:
            ran.append(name)
            if len(ran) > 3:
                again.set()
            connection.execute("UPDATE accounts SET created_at = created_at + 1 WHERE id = ?", (name,))
            return name

        return work

    async def use(database: Any) -> None:
        await asyncio.gather(*(database.write(insert(name)) for name in "abc"))
        held = Held()
        busy = asyncio.create_task(database.write(held))
        await held.under_way()
        with psycopg.connect(url) as other:
            other.execute("UPDATE accounts SET created_at = 0 WHERE id = 'b'")
            writes = [asyncio.create_task(database.write(touch(name))) for name in "abc"]
            await asyncio.sleep(0)
            held.go.set()
            await busy
            assert await asyncio.to_thread(again.wait, 30)
            assert ran == ["a", "b", "c", "b"]
            with psycopg.connect(url) as third:  # the others are committed, and hold no lock
                third.execute("SELECT id FROM accounts WHERE id IN ('a', 'c') FOR UPDATE NOWAIT")
            assert not any(write.done() for write in writes)
        assert await asyncio.gather(*writes) == ["a", "b", "c"]

    with_database(url, use)


def test_a_write_that_was_committed_alone_succeeds_although_the_next_one_fails(database_url: str) -> None:
    tries: list[str] = []

    def retried(connection: Connection) -> str:
        tries.append("try")
        if len(tries) == 1:
            raise RetryTransaction
        return insert("first")(connection)

    def lost(connection: Connection) -> None:
        insert("lost")(connection)
        raise StoreUnavailable("The database is gone.")

    async def use(database: Any) -> None:
        held = Held()
        busy = asyncio.create_task(database.write(held))
        await held.under_way()
        works: list[Callable[[Connection], Any]] = [retried, lost, insert("last")]
        group = [asyncio.create_task(database.write(work)) for work in works]
        asyncio.get_running_loop().call_soon(held.go.set)  # runs when all writes are queued
        first, second, last = await asyncio.gather(*group, return_exceptions=True)
        assert await busy == "held"
        assert first == "first"
        assert [type(each) for each in (second, last)] == [StoreUnavailable, StoreUnavailable]
        assert await database.read(names) == {"held", "first"}

    with_database(database_url, use)


def test_a_session_that_became_read_only_is_replaced(databases: Databases) -> None:
    """As after a failover: the former primary is a standby, and the address leads to the new primary."""

    def become_read_only(connection: Connection) -> None:
        connection.execute("SET default_transaction_read_only = on")

    async def use(database: Any) -> None:
        await database.write(become_read_only)
        with pytest.raises(StoreUnavailable, match="accepts no writes"):
            await database.write(insert("refused"))
        await database.write(insert("after"))
        assert await database.read(names) == {"after"}

    with_database(databases.fresh("postgres"), use)


def test_a_read_only_database_is_refused_for_writing(databases: Databases) -> None:
    url = databases.fresh("postgres")
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"ALTER DATABASE {session.info.dbname} SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailable, match="accepts no writes"):
        PostgresConnection(url, read_only=False)
    PostgresConnection(url, read_only=True).close()


def test_a_session_that_was_idle_in_a_transaction_is_replaced(databases: Databases) -> None:
    def stay_idle(connection: Connection) -> None:
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 1")
        insert("undone")(connection)
        with psycopg.connect(url) as other:
            other.execute("SELECT pg_sleep(0.2)")
        connection.execute("SELECT 1")

    async def use(database: Any) -> None:
        with pytest.raises(StoreUnavailable, match="nothing was written"):
            await database.write(stay_idle)
        await database.write(insert("after"))
        assert await database.read(names) == {"after"}

    url = databases.fresh("postgres")
    with_database(url, use)


def test_a_server_with_refused_settings_is_not_retried_in_a_loop(databases: Databases) -> None:
    """A server that came back with unsafe settings needs its operator, so fast retries would not help."""
    url = databases.fresh("postgres")
    connects: list[None] = []
    third = threading.Event()

    def connect() -> DriverConnection:
        connects.append(None)
        if len(connects) == 1:
            return PostgresConnection(url, read_only=False)
        if len(connects) == 3:
            third.set()
        raise ConfigurationError("It would lose acknowledged commits.")

    async def lose_the_connection() -> None:
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'loyalpro'")
        with pytest.raises(StoreUnavailable):
            await writer.submit(insert("lost"))

    writer = GroupWriter(connect, Answers(SystemClock()), CallLimit(lambda: False), name="refused", max_group_size=1)
    writer.start()
    asyncio.run(lose_the_connection())
    retried = third.wait(0.5)
    assert threads.stop([writer], SystemClock())
    assert not retried


def test_a_stop_iteration_reaches_the_caller_as_a_runtime_error(database_url: str) -> None:
    """A future refuses this exception, so its caller would wait forever."""

    def exhausted(_: Connection) -> object:
        return next(iter(()))

    async def use(database: Any) -> None:
        for run in (database.write, database.read, database.lookup):
            with pytest.raises(RuntimeError, match="StopIteration"):
                await asyncio.wait_for(run(exhausted), 10)
        results = await asyncio.gather(
            database.write(insert("a")), database.write(exhausted), database.write(insert("b")), return_exceptions=True
        )
        assert [type(each) for each in results] == [str, RuntimeError, str]
        assert await database.read(names) == {"a", "b"}

    with_database(database_url, use)
