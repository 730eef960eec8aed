"""Sends over HTTPS with libcurl, from one thread that drives every transfer; the rest of the program awaits results."""

import asyncio
import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pycurl
import structlog

from loyalpro.delivery.attempt import OutgoingRequest, SendResult
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.transfer import CertificateBundle, Transfer

_MOST_IDLE_HANDLES: Final = 256
_EVENTS: Final = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}


@dataclass(slots=True)
class _Job:
    request: OutgoingRequest
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[SendResult]


class CurlSender:
    """Satisfies `delivery.attempt.Sender`. `start` before the first `send`, `stop` after the last."""

    def __init__(
        self, policy: AddressPolicy, ca_file: Path | None = None, *, most_idle_connections: int = 2_000
    ) -> None:
        self._policy = policy
        self._most_idle_connections = most_idle_connections
        self._bundle = CertificateBundle(ca_file)
        self._inbox: deque[_Job] = deque()
        self._canceled: deque[_Job] = deque()
        self._stopping = False
        self._woken = False
        self._thread: threading.Thread | None = None
        self._wake_fd = -1

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    async def start(self) -> None:
        """Start the thread."""
        self._stopping = False
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        loop = _CurlLoop(
            self._policy,
            self._bundle,
            self._wake_fd,
            self._take,
            lambda: self._stopping,
            most_idle_connections=self._most_idle_connections,
        )
        self._thread = threading.Thread(target=loop.run, name="curl", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread. What is still under way is abandoned: nobody awaits it any more."""
        self._stopping = True
        self._wake()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            os.close(self._wake_fd)
            self._thread = None

    async def send(self, request: OutgoingRequest) -> SendResult:
        """Send and wait for the result; cancelling breaks the transfer off."""
        loop = asyncio.get_running_loop()
        job = _Job(request, loop, loop.create_future())
        self._inbox.append(job)
        self._wake()
        try:
            return await job.future
        except asyncio.CancelledError:
            self._canceled.append(job)
            self._wake()
            raise

    def _wake(self) -> None:
        """Once is enough for everything that is asked before the thread looks."""
        if not self._woken:
            self._woken = True
            os.eventfd_write(self._wake_fd, 1)

    def _take(self) -> tuple[list[_Job], list[_Job]]:
        """What has been asked since the last time: transfers to start, and to break off.

        The flag falls before the look: whoever asks after the look wakes the thread again.
        """
        self._woken = False
        return _drained(self._inbox), _drained(self._canceled)


class _CurlLoop:
    """The thread's own event loop: epoll, driven by what libcurl says it waits for."""

    def __init__(
        self,
        policy: AddressPolicy,
        bundle: CertificateBundle,
        wake_fd: int,
        take: Callable[[], tuple[list[_Job], list[_Job]]],
        stopping: Callable[[], bool],
        *,
        most_idle_connections: int,
    ) -> None:
        self._policy = policy
        self._bundle = bundle
        self._wake_fd = wake_fd
        self._take = take
        self._stopping = stopping
        self._most_idle_connections = most_idle_connections
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        self._timeout_s: float = -1
        self._jobs: dict[pycurl.Curl, _Job] = {}
        self._transfers: dict[pycurl.Curl, Transfer] = {}
        self._idle: list[Transfer] = []
        self._finished: list[tuple[_Job, SendResult]] = []
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    def run(self) -> None:
        """Until told to stop."""
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        while not self._stopping():
            try:
                self._turn()
            except Exception:
                structlog.get_logger("transport").exception("sender_broke")
                raise
        self._close()

    def _turn(self) -> None:
        """Wait for the network, a timer or a request; let libcurl act; hand back what is finished."""
        ready = self._epoll.poll(self._timeout_s)
        if not ready:
            self._timeout_s = -1
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        for fd, events in ready:
            if fd == self._wake_fd:
                os.eventfd_read(self._wake_fd)
                self._accept()
            elif fd in self._watched:
                self._multi.socket_action(fd, _action(events))
        self._collect()
        self._hand_back()

    def _accept(self) -> None:
        """Start and break off what was asked for.

        libcurl's limit counts the connections in use as well. Were it fixed, the idle ones of those that answer would be
        closed for the sake of those that hang, and every delivery would begin with a handshake.
        """
        starting, canceled = self._take()
        self._multi.setopt(pycurl.M_MAXCONNECTS, len(self._jobs) + len(starting) + self._most_idle_connections)
        for job in starting:
            transfer = self._idle.pop() if self._idle else Transfer(self._policy, self._bundle)
            transfer.prepare(job.request)
            self._jobs[transfer.handle] = job
            self._transfers[transfer.handle] = transfer
            self._multi.add_handle(transfer.handle)
        if canceled:
            gone = {id(job) for job in canceled}
            for handle in [handle for handle, job in self._jobs.items() if id(job) in gone]:
                self._release(handle)

    def _collect(self) -> None:
        while True:
            waiting, succeeded, failed = self._multi.info_read(100)
            for handle in succeeded:
                self._finish(handle, 0)
            for handle, code, _ in failed:
                self._finish(handle, code)
            if not waiting:
                return

    def _finish(self, handle: pycurl.Curl, code: int) -> None:
        result = self._transfers[handle].result(code)
        self._finished.append((self._jobs[handle], result))
        self._release(handle)

    def _release(self, handle: pycurl.Curl) -> None:
        self._multi.remove_handle(handle)
        del self._jobs[handle]
        transfer = self._transfers.pop(handle)
        if len(self._idle) < _MOST_IDLE_HANDLES:
            self._idle.append(transfer)
        else:
            handle.close()

    def _hand_back(self) -> None:
        """One wake-up of each event loop for everything that finished in this turn."""
        if not self._finished:
            return
        finished, self._finished = self._finished, []
        for loop in {job.loop for job, _ in finished}:
            mine = [(job.future, result) for job, result in finished if job.loop is loop]
            try:
                loop.call_soon_threadsafe(_resolve, mine)
            except RuntimeError:
                structlog.get_logger("transport").warning("results_dropped", count=len(mine))  # their loop is closed

    def _watch(self, event: int, fd: int, _multi: object, _data: object) -> None:
        """libcurl says which sockets it waits for."""
        if event == pycurl.POLL_REMOVE:
            if fd in self._watched:
                self._watched.discard(fd)
                with contextlib.suppress(OSError):  # it may be closed already
                    self._epoll.unregister(fd)
        elif fd in self._watched:
            self._epoll.modify(fd, _EVENTS[event])
        else:
            self._watched.add(fd)
            self._epoll.register(fd, _EVENTS[event])

    def _set_timer(self, timeout_ms: int) -> None:
        """libcurl says when it wants to be called although nothing happened; -1 is never."""
        self._timeout_s = timeout_ms / 1_000 if timeout_ms >= 0 else -1

    def _close(self) -> None:
        for handle in list(self._jobs):
            self._release(handle)
        self._multi.close()
        for transfer in self._idle:
            transfer.handle.close()
        self._epoll.close()


def _action(events: int) -> int:
    action = 0
    if events & select.EPOLLIN:
        action |= pycurl.CSELECT_IN
    if events & select.EPOLLOUT:
        action |= pycurl.CSELECT_OUT
    if events & (select.EPOLLERR | select.EPOLLHUP):
        action |= pycurl.CSELECT_ERR
    return action


def _resolve(finished: list[tuple[asyncio.Future[SendResult], SendResult]]) -> None:
    for future, result in finished:
        if not future.done():
            future.set_result(result)


def _drained(queue: deque[_Job]) -> list[_Job]:
    taken = []
    while queue:
        taken.append(queue.popleft())
    return taken
