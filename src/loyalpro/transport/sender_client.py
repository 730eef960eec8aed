"""The server's side of one sender process: it hands requests over, and gives each caller the result of its request."""

import asyncio
import itertools
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

import structlog

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, SendResult, Timings
from loyalpro.kernel.iteration import pull
from loyalpro.transport.resolver import NO_TIME, Resolution
from loyalpro.transport.wire import Frames, Question, ResultBatch, SendBatch, frame

_STOP_S: Final = 5.0
_START_S: Final = 15.0
_NOTHING: Final = SendBatch([], [])
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

    Every `check_s` the client sends a ping. A process that has not answered one for `silent_s`, or that has not answered
    `overdue_s` after the time of a request was up, is killed, as unresponsive, and `on_unresponsive` is called. When the
    process ends, its open requests end as `interrupted`.
    """

    process: "subprocess.Popen[bytes]"
    loop: asyncio.AbstractEventLoop
    check_s: float
    overdue_s: float
    silent_s: float
    on_unresponsive: Callable[[], None]
    alive: bool = True
    suspected: bool = False
    _open: dict[int, _OpenRequest] = field(default_factory=dict)
    _look_ups: dict[int, asyncio.Future[Resolution]] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _batch: SendBatch = field(default_factory=lambda: SendBatch([], []))
    _results: Frames[ResultBatch] = field(default_factory=lambda: Frames(ResultBatch))
    _transport: asyncio.WriteTransport | None = None
    _check: asyncio.TimerHandle | None = None
    _ping: int = 0
    _pinged_at_s: float | None = None
    has_answered: bool = False
    _stopping: bool = False

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
        """Close the connection, and wait until the process has ended; one that does not end is killed.

        The kernel does not end a process that waits for a broken disk, for example. It is left behind then.
        """
        self._stopping = True
        if self._transport is not None:
            self._transport.close()
        if not await self._has_ended():
            self.process.kill()
            if not await self._has_ended():
                structlog.get_logger("transport").error("sender_process_left_behind", pid=self.process.pid)

    async def _has_ended(self) -> bool:
        try:
            await asyncio.to_thread(self.process.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _next_batch(self) -> SendBatch:
        if self._batch == _NOTHING:
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
        self._send_ping()
        self._check = self.loop.call_later(self.check_s, self._kill_if_unresponsive)

    def data_received(self, data: bytes) -> None:
        """Give the results that are complete to their callers."""
        for batch in self._results.read(data):
            if self._ping in batch.pings:
                self._pinged_at_s, self.has_answered = None, True
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
        if interrupted and not self._stopping:
            structlog.get_logger("transport").error(
                "sender_process_ended", pid=self.process.pid, open_requests=len(interrupted)
            )
        for each in interrupted.values():
            if not each.future.done():
                each.future.set_result(_INTERRUPTED)
        for look_up in self._look_ups.values():
            if not look_up.done():
                look_up.set_result(NO_TIME)

    def _send_ping(self) -> None:
        self._ping, self._pinged_at_s = pull(self._numbers), self.loop.time()
        self._next_batch().pings.append(self._ping)

    def _kill_if_unresponsive(self) -> None:
        """Kill the process if it is suspect in two checks in a row.

        One check is not enough: after a pause of the server itself, a ping and requests look overdue until the event loop has
        read the answers, and it reads them between two checks.
        """
        was_suspected, self.suspected = self.suspected, self._is_silent() or self._is_overdue()
        if was_suspected and self.suspected:
            self._kill()
            return
        if self._pinged_at_s is None:
            self._send_ping()
        self._check = self.loop.call_later(self.check_s, self._kill_if_unresponsive)

    def _is_silent(self) -> bool:
        """Return whether a ping has no answer for too long. A process that is starting has more time."""
        longest_s = self.silent_s if self.has_answered else max(self.silent_s, _START_S)
        return self._pinged_at_s is not None and self.loop.time() - self._pinged_at_s > longest_s

    def _is_overdue(self) -> bool:
        now_s = self.loop.time()
        return any(each.overdue_at_s < now_s for each in self._open.values())

    def _kill(self) -> None:
        """Kill the process, and end its requests without waiting for its end."""
        structlog.get_logger("transport").error(
            "sender_process_unresponsive", pid=self.process.pid, open_requests=len(self._open)
        )
        self.alive = False
        self.process.kill()
        if self._transport is not None:
            self._transport.abort()
        self.on_unresponsive()
