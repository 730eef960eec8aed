"""The replay job, piece by piece: exact across crashes, and with several processes."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from loyalpro.events.new_event import NewEvent
from loyalpro.events.samples import sample
from loyalpro.jobs.periodic_job import Piece
from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.ids import IdFactory, delivery_id
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database
from loyalpro.storage.open import open_database
from loyalpro.storage.postgres.connection import PostgresConnection
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.webhooks.entities import Replay
from loyalpro.webhooks.replays import STATUSES, ReplayJob, continue_replay
from support.units import insert_endpoint, new_endpoint, runner_on, unit_on

ACCOUNT, CUSTOMER = "acct_1", "cus_1"
PIECE = 200


def add_endpoint(unit: UnitOfWork, ordering: str) -> str:
    made = new_endpoint(unit, ACCOUNT, "https://example.com/hook", ordering=ordering)
    insert_endpoint(unit, made, "whsec_x")
    return made.id


def add_replay(unit: UnitOfWork, endpoint_id: str, statuses: tuple[str, ...], until: int | None = None) -> str:
    id_, end = unit.ids.new("rpl"), unit.now if until is None else until
    unit.replays.insert(Replay(id_, ACCOUNT, endpoint_id, 0, end, None, statuses, "running", "", 0, 0, unit.now, None))
    return id_


class World:
    """One process on a database with an account."""

    def __init__(self, database: Database, seed: int = 1) -> None:
        self.clock = SystemClock()
        self.ids = IdFactory(self.clock, random.Random(seed))
        self.database = database
        self.woken: list[str] = []
        self.runner = runner_on(database, seed)
        self.job = ReplayJob(runner_on(database, seed + 100, wake_endpoints=self._record_woken))

    def _record_woken(self, endpoint_ids: Iterable[str], *, urgent: bool = False) -> None:
        self.woken.extend(endpoint_ids)

    async def emit(self, count: int, type_: str = "customer.created", *, first: int | None = None) -> None:
        """Commit events; with `first`, events of the customer whose sequence starts there."""

        def work(unit: UnitOfWork) -> None:
            for number in range(count):
                customer, sequence = (None, None) if first is None else (CUSTOMER, first + number)
                unit.outbox.emit(NewEvent(ACCOUNT, type_, customer, sequence, sample(type_, unit.now)))

        await self.runner.change(work)

    async def endpoint(self, ordering: str = "none") -> str:
        return await self.runner.change(lambda unit: add_endpoint(unit, ordering))

    async def replay(self, endpoint_id: str, *statuses: str, until: int | None = None) -> str:
        return await self.runner.change(lambda unit: add_replay(unit, endpoint_id, statuses or STATUSES, until))

    async def look(self, endpoint_id: str, replay_id: str) -> Replay:
        found = await self.runner.read(lambda unit: unit.replays.get(ACCOUNT, endpoint_id, replay_id))
        assert found is not None
        return found

    async def estimate(self, endpoint_id: str, replay_id: str) -> int:
        replay = await self.look(endpoint_id, replay_id)
        return await self.runner.read(lambda unit: unit.replays.estimated_total(replay))

    async def piece(self) -> bool:
        return (await self.job.run_piece(self.clock.now_ms())).more

    async def finish(self) -> None:
        while await self.piece():
            pass

    async def rows(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        return await self.database.read(lambda connection: connection.execute(sql, params))

    async def write(self, sql: str, *params: object) -> None:
        await self.database.write(lambda connection: connection.execute(sql, params))


def in_world(url: str, use: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        database = open_database(url, SystemClock())
        await database.start()
        try:
            world = World(database)
            await world.write("INSERT INTO accounts (id, name, created_at) VALUES (?, 'A', 1)", ACCOUNT)
            await use(world)
        finally:
            await database.stop()

    asyncio.run(main())


def test_a_replay_processes_its_range_in_pieces_and_shows_its_progress(database_url: str) -> None:
    async def use(world: World) -> None:
        await world.emit(2 * PIECE + 50)
        endpoint = await world.endpoint()
        job = await world.replay(endpoint)
        progress = []
        while (await world.look(endpoint, job)).status == "running":
            await world.piece()
            seen = await world.look(endpoint, job)
            progress.append((seen.examined, seen.replayed, await world.estimate(endpoint, job)))
        total = 2 * PIECE + 50
        assert progress == [(PIECE, PIECE, total), (2 * PIECE, 2 * PIECE, total), (total, total, total)]
        assert await world.rows("SELECT COUNT(*) FROM deliveries") == [(total,)]
        assert world.woken == [endpoint] * 3
        assert await world.piece() is False

    in_world(database_url, use)


class Crash(Exception):
    """A crash of the process, which ends its transaction."""


def test_a_piece_that_crashes_changes_nothing_and_is_done_again(database_url: str) -> None:
    async def use(world: World) -> None:
        await world.emit(PIECE + 50)
        endpoint = await world.endpoint()
        job = await world.replay(endpoint)
        await world.piece()

        def crash(connection: Connection) -> None:
            assert continue_replay(unit_on(connection), job).items
            raise Crash

        for _ in range(3):
            with pytest.raises(Crash):
                await world.database.write(crash)
        assert (await world.look(endpoint, job)).examined == PIECE
        await world.finish()
        done = await world.look(endpoint, job)
        assert (done.status, done.examined, done.replayed) == ("done", PIECE + 50, PIECE + 50)
        assert await world.rows("SELECT COUNT(*) FROM deliveries") == [(PIECE + 50,)]

    in_world(database_url, use)


def test_only_deliveries_of_the_given_statuses_are_renewed_with_a_new_window(database_url: str) -> None:
    async def use(world: World) -> None:
        endpoint = await world.endpoint()
        await world.emit(5)
        ids = [id_ for (id_,) in await world.rows("SELECT id FROM deliveries ORDER BY id")]
        for id_, status in zip(ids, ("succeeded", "exhausted", "canceled", "pending", "canceled"), strict=True):
            finished = None if status == "pending" else 9
            await world.write(
                "UPDATE deliveries SET status = ?, attempts = 7, uncounted_attempts = 1, first_attempt_at = 8,"
                " finished_at = ?, due_at = 5 WHERE id = ?",
                status,
                finished,
                id_,
            )
        await world.write(
            "INSERT INTO leases (delivery_id, worker, endpoint_id, attempt, started_at) VALUES (?, 'wrk', ?, 8, 9)",
            ids[4],
            endpoint,
        )
        look = "SELECT id, status, uncounted_attempts, first_attempt_at, due_at > 5, finished_at FROM deliveries ORDER BY id"
        before = await world.rows(look)
        for turn, status in enumerate(("missing", "succeeded", "exhausted", "canceled")):
            job = await world.replay(endpoint, status)
            await world.finish()
            found = await world.rows(look)
            for index in range(5):
                renewed = index < turn
                expected = (ids[index], "pending", 7, None, True, None) if renewed else before[index]
                assert found[index] == expected
            assert (await world.look(endpoint, job)).replayed == min(turn, 1)

    in_world(database_url, use)


def test_events_after_the_end_of_the_range_are_not_replayed(database_url: str) -> None:
    async def use(world: World) -> None:
        await world.emit(3)
        until = world.clock.now_ms()
        while world.clock.now_ms() == until:
            pass
        await world.emit(4)
        endpoint = await world.endpoint()
        job = await world.replay(endpoint, until=until)
        await world.finish()
        done = await world.look(endpoint, job)
        assert (done.status, done.examined, done.replayed) == ("done", 3, 3)

    in_world(database_url, use)


def test_with_ordering_the_first_event_of_a_customer_is_due_and_later_ones_wait(database_url: str) -> None:
    async def use(world: World) -> None:
        await world.emit(3, first=1)
        endpoint = await world.endpoint("customer")
        await world.emit(1, first=4)
        assert await world.rows("SELECT sequence, due_at IS NULL FROM deliveries") == [(4, 0)]
        await world.replay(endpoint)
        await world.finish()
        found = await world.rows("SELECT sequence, due_at IS NULL FROM deliveries ORDER BY sequence")
        assert [(sequence, bool(waits)) for sequence, waits in found] == [(1, False), (2, True), (3, True), (4, False)]

    in_world(database_url, use)


def test_a_canceled_replay_stops_and_so_does_one_of_a_deleted_endpoint(database_url: str) -> None:
    async def use(world: World) -> None:
        await world.emit(PIECE + 1)
        kept, deleted = await world.endpoint(), await world.endpoint()
        jobs = {kept: await world.replay(kept), deleted: await world.replay(deleted)}
        assert await world.piece() is True
        await world.runner.change(lambda unit: unit.replays.finish(jobs[kept], "canceled", unit.now))
        await world.runner.change(lambda unit: unit.endpoints.delete(ACCOUNT, deleted, unit.now))
        assert await world.piece() is False
        for endpoint, job in jobs.items():
            seen = await world.look(endpoint, job)
            assert (seen.status, seen.examined) == ("canceled", PIECE)
            assert await world.estimate(endpoint, job) == PIECE

    in_world(database_url, use)


def test_erased_events_and_those_of_other_accounts_are_not_replayed(database_url: str) -> None:
    async def use(world: World) -> None:
        await world.emit(1)
        await world.write("UPDATE events SET erased_at = 1")
        await world.write("INSERT INTO accounts (id, name, created_at) VALUES ('acct_2', 'B', 1)")
        data = sample("customer.created", 1)
        await world.runner.change(
            lambda unit: unit.outbox.emit(NewEvent("acct_2", "customer.created", None, None, data))
        )
        endpoint = await world.endpoint()
        job = await world.replay(endpoint)
        await world.finish()
        done = await world.look(endpoint, job)
        assert (done.status, done.examined, done.replayed) == ("done", 1, 0)

    in_world(database_url, use)


def test_several_processes_replay_each_event_once_while_new_ones_are_committed(databases: Any) -> None:
    url = databases.fresh("postgres")

    async def use(world: World) -> None:
        await world.emit(4 * PIECE)
        endpoint = await world.endpoint()
        job = await world.replay(endpoint)
        other = open_database(url, SystemClock())
        await other.start()
        try:
            rival = World(other, seed=2)
            await asyncio.gather(world.finish(), rival.finish(), *(world.emit(20) for _ in range(10)))
            await asyncio.gather(world.finish(), rival.finish())
            while (await world.look(endpoint, job)).status == "running":
                await world.piece()
        finally:
            await other.stop()
        done = await world.look(endpoint, job)
        assert (done.status, done.replayed) == ("done", 4 * PIECE)
        assert len(world.woken) + len(rival.woken) == 4
        [(rows, ids)] = await world.rows("SELECT COUNT(*), COUNT(DISTINCT id) FROM deliveries")
        assert rows == ids == 4 * PIECE + 200

    in_world(url, use)


def test_a_replay_waits_for_transactions_that_were_open_when_it_was_created(databases: Any) -> None:
    url = databases.fresh("postgres")

    async def use(world: World) -> None:
        with psycopg.connect(url) as late:
            late.execute(
                "INSERT INTO events (id, account_id, type, created_at, owed, body) VALUES (%s, %s, %s, %s, 0, '{}')",
                (event := world.ids.new("evt"), ACCOUNT, "customer.created", world.clock.now_ms()),
            )
            await world.emit(3)
            endpoint = await world.endpoint()
            job = await world.replay(endpoint)
            for _ in range(3):
                assert await world.piece() is False
            assert (await world.look(endpoint, job)).status == "running"
            late.commit()
        await world.finish()
        done = await world.look(endpoint, job)
        assert (done.status, done.examined, done.replayed) == ("done", 4, 4)
        assert await world.rows("SELECT 1 FROM deliveries WHERE id = ?", delivery_id(event, endpoint)) == [(1,)]

    in_world(url, use)


@pytest.fixture
def connect(databases: Any) -> Iterator[Callable[[], PostgresConnection]]:
    """Makes connections to one PostgreSQL database with an account in it."""
    url, made = databases.fresh("postgres"), []

    def new() -> PostgresConnection:
        made.append(PostgresConnection(url, read_only=False))
        return made[-1]

    in_world(url, lambda world: world.emit(3))
    yield new
    for each in made:
        each.close()


def jobs(connection: PostgresConnection, count: int) -> list[str]:
    """Store replays of one new endpoint; their ids."""
    connection.begin()
    unit = unit_on(connection, 2)
    endpoint = add_endpoint(unit, "none")
    made = [add_replay(unit, endpoint, STATUSES) for _ in range(count)]
    connection.commit()
    return made


def work(connection: PostgresConnection, job: str) -> Piece:
    return continue_replay(unit_on(connection, 3), job)


def test_a_replay_that_another_process_is_working_on_is_skipped(connect: Callable[[], PostgresConnection]) -> None:
    first, second = connect(), connect()
    [job] = jobs(first, 1)
    for each in (first, second):
        each.begin()
    assert work(first, job).items
    assert work(second, job) == Piece(items=0)
    for each in (first, second):
        each.commit()


def test_two_replays_of_the_same_events_at_once_make_one_delivery_of_each(
    connect: Callable[[], PostgresConnection],
) -> None:
    first, second, watcher = connect(), connect(), connect()
    one, other = jobs(first, 2)
    for each in (first, second):
        each.begin()
    assert work(first, one).items
    with ThreadPoolExecutor(1) as thread:
        later = thread.submit(work, second, other)
        while not later.done() and not watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted"):
            pass
        first.commit()
        assert later.result(30).items == 0
    second.commit()
    assert watcher.execute("SELECT COUNT(*), COUNT(DISTINCT id) FROM deliveries") == [(3, 3)]
