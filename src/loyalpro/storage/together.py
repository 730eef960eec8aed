"""What is asked for at the same time is done together: one piece of work reads and writes for all of it.

Who comes while the database is busy has to wait in any case, and waits in a piece with others. So the busier it is, the less
each of them costs; one that comes alone is a piece of one, and waits for nobody.
"""

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, TypeVar

from loyalpro.kernel.errors import LoyalProError, StoreError
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, UnitOfWork

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")
Work = Callable[[UnitOfWork, Sequence[Ask]], Sequence[Answer | LoyalProError]]
"""Answers each, in their order; an error is for the one who asked, and nothing that this one wanted was written."""

MOST_IN_PIECE: Final = 100


class Together:
    """Collects what is asked for until the writer comes to it, and commits it in one piece."""

    def __init__(self, runner: DatabaseUnitOfWorkRunner) -> None:
        self._runner = runner
        self._open: dict[Hashable, _Piece] = {}

    async def change(self, kind: Hashable, ask: Ask, work: Work[Ask, Answer]) -> Answer:
        """What `work` answers to `ask`, once that is durable. All of one kind are done by the same work."""
        piece = self._open.get(kind)
        place = None if piece is None else piece.join(ask)
        if piece is None or place is None:
            piece, place = _Piece(ask), 0
            self._open[kind] = piece
            piece.answers = asyncio.ensure_future(self._answers(kind, piece, work))
        assert piece.answers is not None
        answer: Answer | Exception = (await asyncio.shield(piece.answers))[place]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _answers(self, kind: Hashable, piece: "_Piece", work: Work[Any, Any]) -> Sequence[Any]:
        """A mistake that work makes is the fault of one: each is tried alone then, and the others do not pay for it."""
        try:
            return await self._runner.change(lambda unit: work(unit, piece.close()))
        except Exception as error:  # noqa: BLE001 - handed to those who asked
            asks = piece.close()
            if isinstance(error, StoreError) or len(asks) == 1:
                return [error] * len(asks)
            return [await self._alone(ask, work) for ask in asks]
        finally:
            if self._open.get(kind) is piece:
                del self._open[kind]

    async def _alone(self, ask: Any, work: Work[Any, Any]) -> Any:
        try:
            [answer] = await self._runner.change(lambda unit: work(unit, [ask]))
        except Exception as error:  # noqa: BLE001 - handed to the one who asked
            return error
        return answer


class _Piece:
    """Joined on the event loop, closed on the writer's thread as soon as it is begun."""

    def __init__(self, first: Any) -> None:
        self.answers: asyncio.Future[Sequence[Any]] | None = None
        self._asks = [first]
        self._closed = False
        self._lock = threading.Lock()

    def join(self, ask: Any) -> int | None:
        """The place that `ask` has in it; None when it is too late for that, or too full."""
        with self._lock:
            if self._closed or len(self._asks) >= MOST_IN_PIECE:
                return None
            self._asks.append(ask)
            return len(self._asks) - 1

    def close(self) -> Sequence[Any]:
        """Everybody who is in it. Nobody joins any more, however often the work is begun anew."""
        with self._lock:
            self._closed = True
            return self._asks
