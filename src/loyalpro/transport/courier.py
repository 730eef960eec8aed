"""The process that sends: libcurl's transfers in one loop, orders in and reports out over the socket it was born with.

It lives next to the server, and dies with it. It alone talks to endpoints, and holds neither the database nor the key.
"""

import contextlib
import ctypes
import gc
import select
import signal
import socket
import sys
from typing import Final

import pycurl

from loyalpro.kernel.clock import Clock, SystemClock
from loyalpro.transport.address_policy import AddressPolicy, networks
from loyalpro.transport.transfer import Transfer
from loyalpro.transport.wire import Frames, Orders, Reports, frame

_MOST_IDLE_HANDLES: Final = 256
_MOST_READ: Final = 256 * 1024
_PR_SET_PDEATHSIG: Final = 1
_NEW_OBJECTS: Final = 20_000
_TURN_S: Final = 0.001
_POLLS: Final = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}


def main() -> None:
    """Send until the server hangs up, which is also what its death looks like; if we stand still then, the system ends us."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the server, which lets us finish what is under way
    descriptor, certificates, most_idle_connections, *allowed = sys.argv[1:]
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 10, 10)
    with socket.socket(fileno=int(descriptor)) as server:
        policy = AddressPolicy(networks(allowed))
        Courier(server, policy, certificates, SystemClock(), most_idle_connections=int(most_idle_connections)).run()


class Courier:
    """An epoll loop over the server's socket and those that libcurl says it waits for."""

    def __init__(
        self,
        server: socket.socket,
        policy: AddressPolicy,
        certificates: str,
        clock: Clock,
        *,
        most_idle_connections: int,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._certificates = certificates
        self._most_idle_connections = most_idle_connections
        self._server = server
        self._server.setblocking(False)
        self._orders = Frames(Orders)
        self._unsent = bytearray()
        self._ended: Reports = Reports([])
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        self._timeout_s: float = -1
        self._under_way: dict[int, Transfer] = {}
        self._numbers: dict[pycurl.Curl, int] = {}
        self._idle: list[Transfer] = []
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._open = True

    def run(self) -> None:
        """Until the server hangs up."""
        self._epoll.register(self._server, select.EPOLLIN)
        while self._open:
            self._turn()

    def _turn(self) -> None:
        """Wait for the network, a timer or an order; let libcurl act; report what has ended.

        Orders go first, and a turn is short: a handshake takes a millisecond, and what is sent over a connection that is
        open does not wait for many of them. What is left is still ready in the next turn.
        """
        ready = dict(self._epoll.poll(self._timeout_s))
        ends_s = self._clock.monotonic_s() + _TURN_S
        ordered = ready.pop(self._server.fileno(), 0)
        if ordered:
            self._listen(ordered)
        if ordered or not ready:
            self._timeout_s = -1
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        for fd, events in ready.items():
            if fd in self._watched:
                self._multi.socket_action(fd, _action(events))
            if self._clock.monotonic_s() > ends_s:
                break
        self._collect()
        self._report()

    # -- orders ------------------------------------------------------------------------------------------------------

    def _listen(self, events: int) -> None:
        if not events & ~select.EPOLLOUT:
            return
        try:
            data = self._server.recv(_MOST_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._open = False
            return
        for orders in self._orders.read(data):
            self._follow(orders)

    def _follow(self, orders: Orders) -> None:
        """Start and break off what was ordered.

        libcurl's limit counts the connections in use as well. Were it fixed, the idle ones of those that answer would be
        closed for the sake of those that hang, and every delivery would begin with a handshake.
        """
        in_use = len(self._under_way) + len(orders.start)
        self._multi.setopt(pycurl.M_MAXCONNECTS, in_use + self._most_idle_connections)
        for number, request in orders.start:
            transfer = self._idle.pop() if self._idle else Transfer(self._policy, self._certificates)
            transfer.prepare(request)
            self._under_way[number] = transfer
            self._numbers[transfer.handle] = number
            self._multi.add_handle(transfer.handle)
        for number in orders.cancel:
            if number in self._under_way:  # it may have ended meanwhile
                self._release(number)

    # -- libcurl -----------------------------------------------------------------------------------------------------

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
        number = self._numbers[handle]
        self._ended.ended.append((number, self._under_way[number].result(code)))
        self._release(number)

    def _release(self, number: int) -> None:
        transfer = self._under_way.pop(number)
        del self._numbers[transfer.handle]
        self._multi.remove_handle(transfer.handle)
        if len(self._idle) < _MOST_IDLE_HANDLES:
            transfer.clear()
            self._idle.append(transfer)
        else:
            transfer.handle.close()

    def _watch(self, event: int, fd: int, _multi: object, _data: object) -> None:
        """libcurl says which sockets it waits for."""
        if event == pycurl.POLL_REMOVE:
            if fd in self._watched:
                self._watched.discard(fd)
                with contextlib.suppress(OSError):  # it may be closed already
                    self._epoll.unregister(fd)
        elif fd in self._watched:
            self._epoll.modify(fd, _POLLS[event])
        else:
            self._watched.add(fd)
            self._epoll.register(fd, _POLLS[event])

    def _set_timer(self, timeout_ms: int) -> None:
        """libcurl says when it wants to be called although nothing happened; -1 is never."""
        self._timeout_s = timeout_ms / 1_000 if timeout_ms >= 0 else -1

    # -- reports -----------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """One frame for everything that ended in this turn; what the server has no room for waits."""
        waited = bool(self._unsent)
        if self._ended.ended:
            self._unsent += frame(self._ended)
            self._ended = Reports([])
        if not self._unsent:
            return
        try:
            del self._unsent[: self._server.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._open = False
        if waited != bool(self._unsent):
            self._epoll.modify(self._server, select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0))


def _action(events: int) -> int:
    action = 0
    if events & select.EPOLLIN:
        action |= pycurl.CSELECT_IN
    if events & select.EPOLLOUT:
        action |= pycurl.CSELECT_OUT
    if events & (select.EPOLLERR | select.EPOLLHUP):
        action |= pycurl.CSELECT_ERR
    return action


if __name__ == "__main__":
    main()
