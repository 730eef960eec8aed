"""Sends over HTTPS through a process of its own, where libcurl has a core to itself; the rest of the program awaits results."""

import asyncio
import itertools
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import structlog

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, SendResult, Timings
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.transfer import CertificateBundle
from loyalpro.transport.wire import Frames, Orders, Reports, frame

_LOOK_S: Final = 5.0
_OVERDUE_S: Final = 10.0
_STOP_S: Final = 5.0
_PASSED_ON: Final = re.compile(
    "PATH|HOME|TMPDIR|TZ|TZDIR|LANG|LANGUAGE|LC_.*|PYTHON.*|LD_LIBRARY_PATH|LD_PRELOAD|OPENSSL_CONF|OPENSSL_MODULES"
    "|RES_OPTIONS|LOCALDOMAIN|HOSTALIASES"
)
"""The variables that Python, its libraries and the resolver go by."""
_ENDED: Final = SendResult(
    response=None,
    failure=OutcomeCode.INTERRUPTED,
    detail="The process that was sending it ended; the endpoint may or may not have had it, and it is tried again.",
    remote_ip=None,
    timings=Timings(None, None, None, None, 0.0),
)


class SenderStopped(Exception):
    """A request came when nothing is sent any more."""


@dataclass(slots=True)
class _Job:
    future: asyncio.Future[SendResult]
    overdue_at_s: float


class CurlSender:
    """Satisfies `delivery.attempt.Sender`. `start` before the first `send`, `stop` after the last.

    When the process ends by itself, what it had under way is `interrupted`, and another one is started for the next.
    One that stands still is ended: it has, `overdue_s` after a request's time was up, not said what became of it.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        ca_file: Path | None = None,
        *,
        most_idle_connections: int = 2_000,
        look_s: float = _LOOK_S,
        overdue_s: float = _OVERDUE_S,
    ) -> None:
        self._policy = policy
        self._most_idle_connections = most_idle_connections
        self._look_s = look_s
        self._overdue_s = overdue_s
        self._bundle = CertificateBundle(ca_file)
        self._courier: _Courier | None = None
        self._starting = asyncio.Lock()
        self._stopped = True
        self._starts = False

    @property
    def alive(self) -> bool:
        """Whether requests are sent. One process that has ended makes no difference, unless no other can be started."""
        return self._starts and not self._stopped

    async def start(self) -> None:
        """Start the process."""
        self._stopped = False
        await self._working()

    async def stop(self) -> None:
        """End the process. What is still under way is abandoned: nobody awaits it any more."""
        self._stopped = True
        courier, self._courier = self._courier, None
        if courier is not None:
            await courier.stop()

    async def send(self, request: OutgoingRequest) -> SendResult:
        """Send and wait for the result; cancelling breaks the transfer off."""
        courier = self._courier
        if courier is None or not courier.alive:
            courier = await self._working()
        return await courier.send(request)

    async def _working(self) -> "_Courier":
        async with self._starting:
            if self._stopped:
                raise SenderStopped("Nothing is sent any more; start the sender first.")
            if self._courier is not None and not self._courier.alive:
                await self._courier.stop()
                self._courier = None
            if self._courier is None:
                self._courier = await self._start()
            return self._courier

    async def _start(self) -> "_Courier":
        """It takes orders at once, and follows them when it has found its feet."""
        self._starts = False
        ours, theirs = socket.socketpair()
        try:
            process = self._spawn(theirs.fileno())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        loop = asyncio.get_running_loop()
        courier = _Courier(process, loop, self._look_s, self._overdue_s)
        await loop.create_unix_connection(lambda: courier, sock=ours)
        self._starts = True
        return courier

    def _spawn(self, socket_fd: int) -> "subprocess.Popen[bytes]":
        """It talks to strangers: of the server's environment, where the keys are, it gets what it cannot run without."""
        arguments = [str(socket_fd), self._bundle.path, str(self._most_idle_connections), *map(str, self._policy.allow)]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "loyalpro.transport.courier", *arguments],
            pass_fds=(socket_fd, self._bundle.fd),
            env={name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)},
            stdin=subprocess.DEVNULL,
        )


@dataclass(slots=True, eq=False)
class _Courier(asyncio.Protocol):
    """The server's side of one process. All orders of one turn of the event loop leave in one frame."""

    process: "subprocess.Popen[bytes]"
    loop: asyncio.AbstractEventLoop
    look_s: float
    overdue_s: float
    alive: bool = True
    _jobs: dict[int, _Job] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _orders: Orders = field(default_factory=lambda: Orders([], []))
    _reports: Frames[Reports] = field(default_factory=lambda: Frames(Reports))
    _transport: asyncio.WriteTransport | None = None
    _look: asyncio.TimerHandle | None = None
    _suspected: bool = False

    async def stop(self) -> None:
        """Hang up, and wait until the process has gone."""
        if self._transport is not None:
            self._transport.close()
        try:
            await asyncio.to_thread(self.process.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)

    async def send(self, request: OutgoingRequest) -> SendResult:
        """Order it, and wait for the report."""
        number = next(self._numbers)
        job = _Job(self.loop.create_future(), self.loop.time() + request.timeout_s + self.overdue_s)
        self._jobs[number] = job
        self._order().start.append((number, request))
        try:
            return await job.future
        except asyncio.CancelledError:
            if self._jobs.pop(number, None) is not None:
                self._order().cancel.append(number)
            raise

    def _order(self) -> Orders:
        if not self._orders.start and not self._orders.cancel:
            self.loop.call_soon(self._flush)
        return self._orders

    def _flush(self) -> None:
        orders, self._orders = self._orders, Orders([], [])
        if self._transport is not None and self.alive:
            self._transport.write(frame(orders))

    # -- what the event loop tells -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is somebody to give orders to."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._look = self.loop.call_later(self.look_s, self._look_after)

    def data_received(self, data: bytes) -> None:
        """Reports, or a piece of one."""
        for reports in self._reports.read(data):
            for number, result in reports.ended:
                job = self._jobs.pop(number, None)
                if job is not None and not job.future.done():
                    job.future.set_result(result)

    def connection_lost(self, _: Exception | None) -> None:
        """The process has ended, by our wish or by itself."""
        self.alive = False
        if self._look is not None:
            self._look.cancel()
        jobs, self._jobs = self._jobs, {}
        if jobs:
            structlog.get_logger("transport").error("courier_ended", pid=self.process.pid, under_way=len(jobs))
        for job in jobs.values():
            if not job.future.done():
                job.future.set_result(_ENDED)

    def _look_after(self) -> None:
        """End a process that stands still: its requests are tried again by another.

        Two looks in a row have to find it so: when it is we who stood still, its reports are read between them.
        """
        now_s = self.loop.time()
        suspected, self._suspected = self._suspected, any(job.overdue_at_s < now_s for job in self._jobs.values())
        if suspected and self._suspected:
            structlog.get_logger("transport").error("courier_stands_still", pid=self.process.pid)
            self.process.kill()
        self._look = self.loop.call_later(self.look_s, self._look_after)
