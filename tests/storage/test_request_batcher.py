"""Requests that wait at the same time run as one batch, and each gets the result that it would get alone."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import NotFound, StoreUnavailable
from loyalpro.storage.connection import RetryTransaction
from loyalpro.storage.open import open_database
from loyalpro.storage.request_batcher import MAX_BATCH_SIZE, RequestBatcher
from loyalpro.storage.unit_of_work import UnitOfWork
from support.units import runner_on
from support.writes import Held, insert, names


class InsertNames:
    """A batch function that inserts names. It refuses `refused`, and raises at `broken`, after it has written other names."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, unit: UnitOfWork, requests: Sequence[str]) -> list[str | NotFound]:
        self.batches.append(list(requests))
        results: list[str | NotFound] = []
        for name in requests:
            if name == "broken":
                raise ValueError("a bug")
            results.append(NotFound("There is no such name.") if name == "refused" else insert(name)(unit.connection))
        return results


class Caller:
    """An open database, and a batcher to which requests are sent."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.batcher = RequestBatcher(runner_on(database))
        self.work = InsertNames()

    def send(self, name: str, kind: str = "names") -> asyncio.Task[Any]:
        return asyncio.create_task(self.batcher.change(kind, name, self.work))

    async def while_busy(self, *requests: str) -> list[Any]:
        """The results of requests that are sent while the writer is busy."""
        held = Held()
        busy = asyncio.create_task(self.database.write(held))
        await held.under_way()
        tasks = [self.send(name) for name in requests]
        await settle()
        held.go.set()
        await busy
        return await asyncio.gather(*tasks, return_exceptions=True)

    async def written(self) -> set[str]:
        found: set[str] = await self.database.read(names)
        return found - {"held"}


async def settle() -> None:
    """Return when every task that was created waits for the writer."""
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(turned.set))
    await turned.wait()


def with_caller(url: str, use: Callable[[Caller], Awaitable[None]]) -> None:
    async def main() -> None:
        database = open_database(url, SystemClock())
        await database.start()
        try:
            await use(Caller(database))
        finally:
            await database.stop()

    asyncio.run(main())


def test_requests_that_arrive_while_the_writer_is_busy_run_as_one_batch(database_url: str) -> None:
    async def use(caller: Caller) -> None:
        assert await caller.while_busy("a", "b", "c") == ["a", "b", "c"]
        assert caller.work.batches == [["a", "b", "c"]]
        assert await caller.written() == {"a", "b", "c"}

    with_caller(database_url, use)


def test_a_request_that_arrives_alone_is_a_batch_of_one(database_url: str) -> None:
    async def use(caller: Caller) -> None:
        for name in ("a", "b"):
            assert await caller.send(name) == name
        assert caller.work.batches == [["a"], ["b"]]

    with_caller(database_url, use)


def test_requests_of_different_kinds_run_in_different_batches(database_url: str) -> None:
    async def use(caller: Caller) -> None:
        held = Held()
        busy = asyncio.create_task(caller.database.write(held))
        await held.under_way()
        tasks = [caller.send("a", "one"), caller.send("b", "other"), caller.send("c", "one")]
        await settle()
        held.go.set()
        assert await asyncio.gather(busy, *tasks) == ["held", "a", "b", "c"]
        assert caller.work.batches == [["a", "c"], ["b"]]

    with_caller(database_url, use)


def test_a_full_batch_is_followed_by_another(database_url: str) -> None:
    async def use(caller: Caller) -> None:
        wanted = [f"a{n}" for n in range(MAX_BATCH_SIZE + 1)]
        assert await caller.while_busy(*wanted) == wanted
        assert [len(each) for each in caller.work.batches] == [MAX_BATCH_SIZE, 1]

    with_caller(database_url, use)


def test_a_refusal_is_raised_for_its_own_request_alone(database_url: str) -> None:
    async def use(caller: Caller) -> None:
        first, refused, last = await caller.while_busy("a", "refused", "b")
        assert (first, last) == ("a", "b")
        assert isinstance(refused, NotFound)
        assert len(caller.work.batches) == 1
        assert await caller.written() == {"a", "b"}

    with_caller(database_url, use)


def test_a_bug_fails_only_the_request_that_triggers_it(database_url: str) -> None:
    async def use(caller: Caller) -> None:
        first, broken, last = await caller.while_busy("a", "broken", "b")
        assert (first, last) == ("a", "b")
        assert isinstance(broken, ValueError)
        assert caller.work.batches == [["a", "broken", "b"], ["a"], ["broken"], ["b"]]
        assert await caller.written() == {"a", "b"}

    with_caller(database_url, use)


def test_a_canceled_caller_does_not_affect_the_batch(database_url: str) -> None:
    async def use(caller: Caller) -> None:
        held = Held()
        busy = asyncio.create_task(caller.database.write(held))
        await held.under_way()
        canceled, stays = caller.send("canceled"), caller.send("stays")
        await settle()
        canceled.cancel()
        await asyncio.gather(canceled, return_exceptions=True)
        held.go.set()
        assert [await busy, await stays] == ["held", "stays"]
        assert await caller.written() == {"canceled", "stays"}

    with_caller(database_url, use)


def test_a_batch_that_runs_again_has_the_same_requests(database_url: str) -> None:
    class RetriedOnce(InsertNames):
        def __call__(self, unit: UnitOfWork, requests: Sequence[str]) -> list[str | NotFound]:
            results = super().__call__(unit, requests)
            if len(self.batches) == 1:
                raise RetryTransaction
            return results

    async def use(caller: Caller) -> None:
        caller.work = RetriedOnce()
        assert await caller.while_busy("a", "b") == ["a", "b"]
        assert caller.work.batches == [["a", "b"], ["a", "b"]]
        assert await caller.written() == {"a", "b"}

    with_caller(database_url, use)


def test_every_request_of_a_batch_gets_the_error_of_the_database(database_url: str) -> None:
    class Failing(InsertNames):
        def __call__(self, unit: UnitOfWork, requests: Sequence[str]) -> list[str | NotFound]:
            super().__call__(unit, requests)
            raise StoreUnavailable("It is unreachable.")

    async def use(caller: Caller) -> None:
        caller.work = Failing()
        errors = await caller.while_busy("a", "b")
        assert [str(each) for each in errors] == ["It is unreachable.", "It is unreachable."]
        assert len(caller.work.batches) == 1
        assert await caller.written() == set()

    with_caller(database_url, use)


@pytest.mark.parametrize("seed", range(3))
def test_every_request_gets_its_own_result_once_at_any_timing(database_url: str, seed: int) -> None:
    rng = random.Random(seed)

    async def use(caller: Caller) -> None:
        async def send_many(sender: int) -> list[Any]:
            results = []
            for n in range(40):
                for _ in range(rng.randrange(4)):
                    await settle()
                results.append(await caller.send(f"{sender}-{n}"))
            return results

        assert await asyncio.gather(*map(send_many, range(12))) == [[f"{s}-{n}" for n in range(40)] for s in range(12)]
        done = [name for batch in caller.work.batches for name in batch]
        assert len(done) == len(set(done)) == 480
        assert max(map(len, caller.work.batches)) > 1

    with_caller(database_url, use)


@pytest.mark.parametrize("error", [StopIteration(), StopAsyncIteration(), LookupError()])
def test_a_batch_function_that_raises_or_returns_an_error_for_loops_ends_for_every_caller(
    database_url: str, error: Exception
) -> None:
    """A future refuses a `StopIteration`, so its caller would wait for ever."""

    def raises(_: UnitOfWork, __: Sequence[str]) -> list[Any]:
        raise error

    def returns(_: UnitOfWork, requests: Sequence[str]) -> list[Any]:
        return [error for _ in requests]

    async def use(caller: Caller) -> None:
        for work in (raises, returns):
            calls = [caller.batcher.change(work, name, work) for name in ("a", "b")]
            results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 60)
            assert all(isinstance(each, RuntimeError | type(error)) for each in results)
            assert not any(isinstance(each, StopIteration) for each in results)

    with_caller(database_url, use)
