"""The server's side of one sender process: it hands requests over, and gives each caller the result of its request."""

import asyncio
import itertools
import subprocess
from dataclasses import dataclass, field
from typing import Final, cast

import structlog

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, SendResult, Timings
from loyalpro.kernel.iteration import pull
from loyalpro.transport.resolver import NO_TIME, Resolution
from loyalpro.transport.wire import Frames, Question, ResultBatch, SendBatch, frame

_STOP_S: Final = 5.0
_INTERRUPTED: Final = SendResult(
    response=None,
    failure=OutcomeCode.INTERRUPTED,
    detail="The sender process ended during the request; the endpoint may have received it. It is sent again.",
    remote_ip=None,
    timings=Timings(None, None, None, None, 0.0),
)


@dataclass(slots=True)
class _OpenRequest:
    future: asyncio.Future[SendResult]
    overdue_at_s: float


@dataclass(slots=True, eq=False)
class SenderClient(asyncio.Protocol):
    """The connection to one sender process. All requests of one turn of the event loop leave in one frame.

    A process that has not answered `overdue_s` after the time of a request was up is killed, as unresponsive. Every
    `check_s` the client looks for such a request. When the process ends, its open requests end as `interrupted`.
    """

    process: "subprocess.Popen[bytes]"
    loop: asyncio.AbstractEventLoop
    check_s: float
    overdue_s: float
    alive: bool = True
    _open: dict[int, _OpenRequest] = field(default_factory=dict)
    _look_ups: dict[int, asyncio.Future[Resolution]] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _batch: SendBatch = field(default_factory=lambda: SendBatch([], []))
    _results: Frames[ResultBatch] = field(default_factory=lambda: Frames(ResultBatch))
    _transport: asyncio.WriteTransport | None = None
    _check: asyncio.TimerHandle | None = None
    _suspected: bool = False

    async def send(self, request: OutgoingRequest) -> SendResult:
        """Send a request and wait for its result; a canceled call cancels the transfer."""
        number = pull(self._numbers)
        open_request = _OpenRequest(self.loop.create_future(), self.loop.time() + request.timeout_s + self.overdue_s)
        self._open[number] = open_request
        self._next_batch().start.append((number, request))
        try:
            return await open_request.future
        except asyncio.CancelledError:
            if self._open.pop(number, None) is not None:
                self._next_batch().cancel.append(number)
            raise

    async def look_up(self, question: Question) -> Resolution:
        """Look a name up; `no_time` when the process ends, or does not respond in twice the time."""
        number = pull(self._numbers)
        future: asyncio.Future[Resolution] = self.loop.create_future()
        self._look_ups[number] = future
        self._next_batch().look_up.append((number, question))
        try:
            async with asyncio.timeout(2 * question.within_s):
                return await future
        except TimeoutError:
            return NO_TIME
        finally:
            self._look_ups.pop(number, None)

    async def stop(self) -> None:
        """Close the connection, and wait until the process has ended; one that does not end is killed."""
        if self._transport is not None:
            self._transport.close()
        try:
            await asyncio.to_thread(self.process.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)

    def _next_batch(self) -> SendBatch:
        if not (self._batch.start or self._batch.cancel or self._batch.look_up):
            self.loop.call_soon(self._flush)
        return self._batch

    def _flush(self) -> None:
        batch, self._batch = self._batch, SendBatch([], [])
        if self._transport is not None and self.alive:
            self._transport.write(frame(batch))

    # -- callbacks of the event loop ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Requests can be sent from now on."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._check = self.loop.call_later(self.check_s, self._kill_if_unresponsive)

    def data_received(self, data: bytes) -> None:
        """Give the results that are complete to their callers."""
        for batch in self._results.read(data):
            for number, result in batch.results:
                open_request = self._open.pop(number, None)
                if open_request is not None and not open_request.future.done():
                    open_request.future.set_result(result)
            for number, resolution in batch.resolutions:
                look_up = self._look_ups.get(number)
                if look_up is not None and not look_up.done():
                    look_up.set_result(resolution)

    def connection_lost(self, _: Exception | None) -> None:
        """End all open requests as `interrupted`: the process has ended, because it was stopped or by itself."""
        self.alive = False
        if self._check is not None:
            self._check.cancel()
        interrupted, self._open = self._open, {}
        if interrupted:
            structlog.get_logger("transport").error(
                "sender_process_ended", pid=self.process.pid, open_requests=len(interrupted)
            )
        for each in interrupted.values():
            if not each.future.done():
                each.future.set_result(_INTERRUPTED)
        for look_up in self._look_ups.values():
            if not look_up.done():
                look_up.set_result(NO_TIME)

    def _kill_if_unresponsive(self) -> None:
        """Kill the process if a request is overdue in two checks in a row.

        One check is not enough: after a pause of the server itself, requests look overdue until the event loop has read
        the results, and it reads them between two checks.
        """
        now_s = self.loop.time()
        suspected, self._suspected = self._suspected, any(each.overdue_at_s < now_s for each in self._open.values())
        if suspected and self._suspected:
            structlog.get_logger("transport").error("sender_process_unresponsive", pid=self.process.pid)
            self.process.kill()
        self._check = self.loop.call_later(self.check_s, self._kill_if_unresponsive)
