"""What is asked for at the same time is done together, and nobody can tell but by the time it takes."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import NotFound, StoreUnavailable
from loyalpro.storage.connection import RetryTransaction
from loyalpro.storage.open import open_database
from loyalpro.storage.together import MOST_IN_PIECE, Together
from loyalpro.storage.unit_of_work import UnitOfWork
from support.units import runner_on
from support.writes import Held, insert, names

Piece = list[str]


class Names:
    """Writes down names: refuses `nobody`, and breaks down at `broken` when it has written some already."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def __call__(self, unit: UnitOfWork, asked: Sequence[str]) -> list[str | NotFound]:
        self.pieces.append(list(asked))
        answers: list[str | NotFound] = []
        for name in asked:
            if name == "broken":
                raise ValueError("a mistake")
            answers.append(NotFound("There is nobody.") if name == "nobody" else insert(name)(unit.connection))
        return answers


class Desk:
    """An open database, and what is asked of it."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.together = Together(runner_on(database))
        self.work = Names()

    def ask(self, name: str, kind: str = "names") -> asyncio.Task[Any]:
        return asyncio.create_task(self.together.change(kind, name, self.work))

    async def while_busy(self, *asked: str) -> list[Any]:
        """Ask while the writer is at something else."""
        held = Held()
        busy = asyncio.create_task(self.database.write(held))
        await held.under_way()
        tasks = [self.ask(name) for name in asked]
        await settle()
        held.go.set()
        await busy
        return await asyncio.gather(*tasks, return_exceptions=True)

    async def written(self) -> set[str]:
        found: set[str] = await self.database.read(names)
        return found - {"held"}


async def settle() -> None:
    """Everything that was begun has come to the point where it waits for the writer."""
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(turned.set))
    await turned.wait()


def at_desk(url: str, use: Callable[[Desk], Awaitable[None]]) -> None:
    async def main() -> None:
        database = open_database(url, SystemClock())
        await database.start()
        try:
            await use(Desk(database))
        finally:
            await database.stop()

    asyncio.run(main())


def test_who_comes_while_the_writer_is_busy_is_done_together(database_url: str) -> None:
    async def use(desk: Desk) -> None:
        assert await desk.while_busy("a", "b", "c") == ["a", "b", "c"]
        assert desk.work.pieces == [["a", "b", "c"]]
        assert await desk.written() == {"a", "b", "c"}

    at_desk(database_url, use)


def test_one_that_comes_alone_waits_for_nobody(database_url: str) -> None:
    async def use(desk: Desk) -> None:
        for name in ("a", "b"):
            assert await desk.ask(name) == name
        assert desk.work.pieces == [["a"], ["b"]]

    at_desk(database_url, use)


def test_what_is_of_another_kind_is_done_apart(database_url: str) -> None:
    async def use(desk: Desk) -> None:
        held = Held()
        busy = asyncio.create_task(desk.database.write(held))
        await held.under_way()
        tasks = [desk.ask("a", "one"), desk.ask("b", "other"), desk.ask("c", "one")]
        await settle()
        held.go.set()
        assert await asyncio.gather(busy, *tasks) == ["held", "a", "b", "c"]
        assert desk.work.pieces == [["a", "c"], ["b"]]

    at_desk(database_url, use)


def test_a_piece_that_is_full_is_followed_by_another(database_url: str) -> None:
    async def use(desk: Desk) -> None:
        wanted = [f"a{n}" for n in range(MOST_IN_PIECE + 1)]
        assert await desk.while_busy(*wanted) == wanted
        assert [len(each) for each in desk.work.pieces] == [MOST_IN_PIECE, 1]

    at_desk(database_url, use)


def test_a_refusal_is_for_the_one_who_asked(database_url: str) -> None:
    async def use(desk: Desk) -> None:
        first, refused, last = await desk.while_busy("a", "nobody", "b")
        assert (first, last) == ("a", "b")
        assert isinstance(refused, NotFound)
        assert len(desk.work.pieces) == 1
        assert await desk.written() == {"a", "b"}

    at_desk(database_url, use)


def test_a_mistake_hurts_only_the_one_for_whom_it_is_made(database_url: str) -> None:
    async def use(desk: Desk) -> None:
        first, broken, last = await desk.while_busy("a", "broken", "b")
        assert (first, last) == ("a", "b")
        assert isinstance(broken, ValueError)
        assert desk.work.pieces == [["a", "broken", "b"], ["a"], ["broken"], ["b"]]
        assert await desk.written() == {"a", "b"}

    at_desk(database_url, use)


def test_who_goes_away_hurts_nobody(database_url: str) -> None:
    async def use(desk: Desk) -> None:
        held = Held()
        busy = asyncio.create_task(desk.database.write(held))
        await held.under_way()
        gone, stays = desk.ask("gone"), desk.ask("stays")
        await settle()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        held.go.set()
        assert [await busy, await stays] == ["held", "stays"]
        assert await desk.written() == {"gone", "stays"}

    at_desk(database_url, use)


def test_a_piece_that_is_begun_anew_is_the_same(database_url: str) -> None:
    class Impatient(Names):
        def __call__(self, unit: UnitOfWork, asked: Sequence[str]) -> list[str | NotFound]:
            answers = super().__call__(unit, asked)
            if len(self.pieces) == 1:
                raise RetryTransaction
            return answers

    async def use(desk: Desk) -> None:
        desk.work = Impatient()
        assert await desk.while_busy("a", "b") == ["a", "b"]
        assert desk.work.pieces == [["a", "b"], ["a", "b"]]
        assert await desk.written() == {"a", "b"}

    at_desk(database_url, use)


def test_when_the_database_fails_everybody_is_told(database_url: str) -> None:
    class Failing(Names):
        def __call__(self, unit: UnitOfWork, asked: Sequence[str]) -> list[str | NotFound]:
            super().__call__(unit, asked)
            raise StoreUnavailable("It is gone.")

    async def use(desk: Desk) -> None:
        desk.work = Failing()
        told = await desk.while_busy("a", "b")
        assert [str(each) for each in told] == ["It is gone.", "It is gone."]
        assert len(desk.work.pieces) == 1
        assert await desk.written() == set()

    at_desk(database_url, use)


@pytest.mark.parametrize("seed", range(3))
def test_whoever_comes_whenever_gets_an_own_answer_once(database_url: str, seed: int) -> None:
    chance = random.Random(seed)

    async def use(desk: Desk) -> None:
        async def asks(shop: int) -> list[Any]:
            answers = []
            for n in range(40):
                for _ in range(chance.randrange(4)):
                    await settle()
                answers.append(await desk.ask(f"{shop}-{n}"))
            return answers

        assert await asyncio.gather(*map(asks, range(12))) == [[f"{s}-{n}" for n in range(40)] for s in range(12)]
        done = [name for piece in desk.work.pieces for name in piece]
        assert len(done) == len(set(done)) == 480
        assert max(map(len, desk.work.pieces)) > 1

    at_desk(database_url, use)
