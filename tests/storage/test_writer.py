"""What both databases promise: groups that are durable when answered, mistakes that are their caller's alone."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import CommitUnknown, ConfigurationError, StoreUnavailable
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


def test_many_writes_share_few_commits_and_each_gets_its_own_result(database_url: str) -> None:
    async def use(database: Any) -> None:
        wanted = [f"a{n}" for n in range(400)]
        assert await asyncio.gather(*(database.write(insert(name)) for name in wanted)) == wanted
        assert await database.read(names) == set(wanted)
        writer = database._writer if database.dialect == "sqlite" else database._writers["ingest"]
        assert writer.groups <= 40

    with_database(database_url, use)


def test_one_that_fails_takes_nobody_with_it_and_leaves_nothing(database_url: str) -> None:
    def bad(connection: Connection) -> None:
        insert("half")(connection)
        raise ValueError("mine alone")

    async def use(database: Any) -> None:
        results = await asyncio.gather(
            database.write(insert("a")), database.write(bad), database.write(insert("b")), return_exceptions=True
        )
        assert [str(each) for each in results] == ["a", "mine alone", "b"]
        assert await database.read(names) == {"a", "b"}

    with_database(database_url, use)


def test_a_result_is_not_heard_before_it_can_be_read(database_url: str) -> None:
    async def use(database: Any) -> None:
        for n in range(30):
            await database.write(insert(f"a{n}"))
            assert f"a{n}" in await database.read(names)

    with_database(database_url, use)


def test_readers_cannot_write(database_url: str) -> None:
    async def use(database: Any) -> None:
        with pytest.raises(Exception, match=r"(?i)read.?only|takes no writes"):
            await database.read(insert("a"))
        assert await database.read(names) == set()

    with_database(database_url, use)


def test_deliveries_do_not_wait_for_what_callers_read(database_url: str) -> None:
    async def use(database: Any) -> None:
        go = threading.Event()
        slow = [asyncio.create_task(database.read(lambda _: go.wait(30))) for _ in range(20)]
        assert await database.read(lambda connection: connection.execute("SELECT 1"), writer="delivery") == [(1,)]
        assert await database.lookup(lambda connection: connection.execute("SELECT 2")) == [(2,)]
        assert not any(each.done() for each in slow)
        go.set()
        await asyncio.gather(*slow)

    with_database(database_url, use)


def test_a_caller_that_went_away_hurts_nobody(database_url: str) -> None:
    async def use(database: Any) -> None:
        held = Held()
        first = asyncio.create_task(database.write(held))
        await held.under_way()
        gone, stays = (asyncio.create_task(database.write(insert(name))) for name in ("gone", "stays"))
        asyncio.get_running_loop().call_soon(gone.cancel)  # when it is queued, in one group with the one behind it
        await asyncio.gather(gone, return_exceptions=True)
        held.go.set()
        assert [await first, await asyncio.wait_for(stays, 30)] == ["held", "stays"]
        assert await database.read(names) == {"held", "gone", "stays"}

    with_database(database_url, use)


def test_stopping_finishes_what_is_queued(database_url: str) -> None:
    async def main() -> None:
        database = open_database(database_url, SystemClock())
        await database.start()
        held = Held()
        first = asyncio.create_task(database.write(held))
        await held.under_way()
        tasks = [first, *(asyncio.create_task(database.write(insert(f"a{n}"))) for n in range(50))]
        stopping = asyncio.create_task(
            database.stop()
        )  # begins when all of them are queued: tasks begin in their order
        asyncio.get_running_loop().call_soon(held.go.set)
        await stopping
        assert len(await asyncio.gather(*tasks)) == 51
        with pytest.raises(StoreUnavailable):
            await database.write(insert("late"))

    asyncio.run(main())


def test_a_connection_that_is_cut_is_made_anew(databases: Databases) -> None:
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
        while not found:  # the readers' connections were cut too; each says so once
            try:
                found = await database.read(names)
            except StoreUnavailable:
                continue
        assert found == {"before", "after"}

    with_database(url, use)


def test_a_connection_that_is_cut_is_made_anew_although_nobody_writes(databases: Databases) -> None:
    """Whoever asks whether the server is ready, and sends nothing to one that is not, must see it come back."""
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


def test_when_the_answer_to_commit_is_lost_nobody_is_told_that_it_failed(databases: Databases) -> None:
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


def test_two_processes_that_lock_in_opposite_order_both_get_through(databases: Databases) -> None:
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


def test_who_was_committed_alone_is_not_told_that_it_failed_when_the_next_one_does(database_url: str) -> None:
    tries: list[str] = []

    def begun_anew(connection: Connection) -> str:
        tries.append("anew")
        if len(tries) == 1:
            raise RetryTransaction
        return insert("first")(connection)

    def lost(connection: Connection) -> None:
        insert("lost")(connection)
        raise StoreUnavailable("It has gone away.")

    async def use(database: Any) -> None:
        held = Held()
        busy = asyncio.create_task(database.write(held))
        await held.under_way()
        works: list[Callable[[Connection], Any]] = [begun_anew, lost, insert("last")]
        group = [asyncio.create_task(database.write(work)) for work in works]
        asyncio.get_running_loop().call_soon(held.go.set)  # when all of them are queued
        first, second, last = await asyncio.gather(*group, return_exceptions=True)
        assert await busy == "held"
        assert first == "first"
        assert [type(each) for each in (second, last)] == [StoreUnavailable, StoreUnavailable]
        assert await database.read(names) == {"held", "first"}

    with_database(database_url, use)


def test_a_session_that_takes_no_writes_any_more_is_replaced(databases: Databases) -> None:
    """As when what was the primary has become a standby: the address leads to another one by then."""

    def turn(connection: Connection) -> None:
        connection.execute("SET default_transaction_read_only = on")

    async def use(database: Any) -> None:
        await database.write(turn)
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            await database.write(insert("refused"))
        await database.write(insert("after"))
        assert await database.read(names) == {"after"}

    with_database(databases.fresh("postgres"), use)


def test_a_database_that_takes_no_writes_is_not_written_to(databases: Databases) -> None:
    url = databases.fresh("postgres")
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"ALTER DATABASE {session.info.dbname} SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailable, match="takes no writes"):
        PostgresConnection(url, read_only=False)
    PostgresConnection(url, read_only=True).close()


def test_a_session_that_stood_still_for_too_long_is_replaced(databases: Databases) -> None:
    def stand_still(connection: Connection) -> None:
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 1")
        insert("undone")(connection)
        with psycopg.connect(url) as other:
            other.execute("SELECT pg_sleep(0.2)")
        connection.execute("SELECT 1")

    async def use(database: Any) -> None:
        with pytest.raises(StoreUnavailable, match="nothing was written"):
            await database.write(stand_still)
        await database.write(insert("after"))
        assert await database.read(names) == {"after"}

    url = databases.fresh("postgres")
    with_database(url, use)


def test_a_database_that_is_refused_is_not_asked_again_and_again(databases: Databases) -> None:
    """It has come back with settings that we cannot live with, say: somebody has to mend it first."""
    url = databases.fresh("postgres")
    asked: list[None] = []
    thrice = threading.Event()

    def connect() -> DriverConnection:
        asked.append(None)
        if len(asked) == 1:
            return PostgresConnection(url, read_only=False)
        if len(asked) == 3:
            thrice.set()
        raise ConfigurationError("It would lose what it has acknowledged.")

    async def lose_the_connection() -> None:
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'loyalpro'")
        with pytest.raises(StoreUnavailable):
            await writer.submit(insert("lost"))

    writer = GroupWriter(connect, name="refused", most_in_group=1)
    writer.start()
    asyncio.run(lose_the_connection())
    asked_in_vain = thrice.wait(0.5)
    writer.stop()
    assert not asked_in_vain
