"""Runs requests that wait for the writer at the same time as one batch, with one read and one write for all of them.

A request that arrives while the writer is busy has to wait for it in any case, and it waits in a batch with others. The larger
the batch, the less each request costs. A request that arrives while the writer is idle is a batch of its own.
"""

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, TypeVar

from loyalpro.kernel.errors import LoyalProError, StoreError
from loyalpro.kernel.unit_of_work import SYSTEM
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, UnitOfWork

Request = TypeVar("Request")
Result = TypeVar("Result")
BatchFunction = Callable[[UnitOfWork, Sequence[Request]], Sequence[Result | LoyalProError]]
"""Returns a result for each request, in their order. An error in the place of a result is raised for that request alone, and
the function has written nothing for it."""

MAX_BATCH_SIZE: Final = 100


class RequestBatcher:
    """Collects requests until the writer reaches them, and commits them as one batch."""

    def __init__(self, runner: DatabaseUnitOfWorkRunner) -> None:
        self._runner = runner
        self._open: dict[Hashable, Batch] = {}

    async def change(
        self, kind: Hashable, request: Request, work: BatchFunction[Request, Result], *, actor: str = SYSTEM
    ) -> Result:
        """What `work` returns for `request`, once it is durable. All requests of one kind and actor pass the same `work`."""
        kind = (kind, actor)
        batch = self._open.get(kind)
        index = None if batch is None else batch.add(request)
        if batch is None or index is None:
            batch, index = Batch(request), 0
            self._open[kind] = batch
            batch.results = asyncio.ensure_future(self._run(kind, batch, work, actor))
        assert batch.results is not None
        result: Result | Exception = (await asyncio.shield(batch.results))[index]
        if isinstance(result, Exception):
            raise result
        return result

    async def _run(self, kind: Hashable, batch: "Batch", work: BatchFunction[Any, Any], actor: str) -> Sequence[Any]:
        """The results of a batch. When `work` raises, one request is at fault: each then runs in a transaction of its own.

        A `StoreError` is no fault of a request, so all of them get it.
        """
        try:
            return await self._runner.change(lambda unit: work(unit, batch.close()), actor=actor)
        except Exception as error:  # noqa: BLE001 - raised again for the callers
            requests = batch.close()
            if isinstance(error, StoreError) or len(requests) == 1:
                return [error] * len(requests)
            return [await self._run_alone(request, work, actor) for request in requests]
        finally:
            if self._open.get(kind) is batch:
                del self._open[kind]

    async def _run_alone(self, request: Any, work: BatchFunction[Any, Any], actor: str) -> Any:
        try:
            [result] = await self._runner.change(lambda unit: work(unit, [request]), actor=actor)
        except Exception as error:  # noqa: BLE001 - raised again for the caller
            return error
        return result


class Batch:
    """Requests of one kind. The event loop adds to it; the thread of the writer closes it when the transaction begins."""

    def __init__(self, first: Any) -> None:
        self.results: asyncio.Future[Sequence[Any]] | None = None
        self._requests = [first]
        self._closed = False
        self._lock = threading.Lock()

    def add(self, request: Any) -> int | None:
        """The index of the added request; None when the batch is closed or full."""
        with self._lock:
            if self._closed or len(self._requests) >= MAX_BATCH_SIZE:
                return None
            self._requests.append(request)
            return len(self._requests) - 1

    def close(self) -> Sequence[Any]:
        """All requests. None is added after the first call, so a transaction that runs again sees the same ones."""
        with self._lock:
            self._closed = True
            return self._requests
