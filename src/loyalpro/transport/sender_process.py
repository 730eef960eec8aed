"""The sender process: one loop that drives all libcurl transfers of a server.

Requests come in and results go out over a socket that the process inherits. The process lives beside the server and ends
with it. It alone connects to endpoints, and it holds neither a database connection nor a secret key.
"""

import contextlib
import ctypes
import gc
import select
import signal
import socket
import sys
from functools import partial
from typing import Final

import pycurl

from loyalpro.delivery.attempt import OutgoingRequest, SendResult
from loyalpro.kernel.clock import Clock, SystemClock
from loyalpro.transport.address_policy import AddressPolicy, networks
from loyalpro.transport.call_guard import CallGuard
from loyalpro.transport.certificate_names import CertificateNames
from loyalpro.transport.dns import Dns
from loyalpro.transport.host_names import host_of, not_sent
from loyalpro.transport.limits import MAX_RECEIVED_BYTES
from loyalpro.transport.received_bytes import ReceivedBytes, UsedBytes, shut_down
from loyalpro.transport.resolver import NameService, Resolution, Resolver
from loyalpro.transport.transfer import Transfer
from loyalpro.transport.wire import Frames, ResultBatch, SendBatch, frame

_MAX_IDLE_HANDLES: Final = 256
_READ_BYTES: Final = 256 * 1024
_PR_SET_PDEATHSIG: Final = 1
_GC_THRESHOLD: Final = 20_000
_TURN_S: Final = 0.001
_NOTHING: Final = ResultBatch([])
_POLLS: Final = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}


def main() -> None:
    """Send until the server closes the socket, or dies: the kernel then kills this process even while it is stopped."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the server, which lets open requests finish
    descriptor, certificates, max_idle_connections, dns_servers, *allowed = sys.argv[1:]
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 10, 10)
    with socket.socket(fileno=int(descriptor)) as server:
        policy = AddressPolicy(networks(allowed))
        dns = Dns([each for each in dns_servers.split(",") if each])
        idle = int(max_idle_connections)
        SenderProcess(server, policy, certificates, SystemClock(), dns, max_idle_connections=idle).run()


class SenderProcess:
    """An epoll loop over the socket of the server and the sockets that libcurl waits for."""

    def __init__(
        self,
        server: socket.socket,
        policy: AddressPolicy,
        certificates: str,
        clock: Clock,
        dns: NameService,
        *,
        max_idle_connections: int,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._certificates = certificates
        self._max_idle_connections = max_idle_connections
        self._server = server
        self._server.setblocking(False)
        self._batches = Frames(SendBatch)
        self._unsent = bytearray()
        self._finished = ResultBatch([])
        self._epoll = select.epoll()
        self._watched: dict[int, ReceivedBytes] = {}
        self._timeout_s: float = -1
        self._transfers: dict[int, Transfer] = {}
        self._numbers: dict[pycurl.Curl, int] = {}
        self._dns = dns
        self._resolver = Resolver(dns.ask, clock)
        self._unresolved: set[int] = set()
        self._idle: list[Transfer] = []
        self._names = CertificateNames()
        self._used = UsedBytes()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._guard = CallGuard(self._watched, self._used)
        self._open = True

    def run(self) -> None:
        """Run until the server closes its end of the socket."""
        self._epoll.register(self._server, select.EPOLLIN)
        self._epoll.register(self._dns.fd, select.EPOLLIN)
        with self._guard:
            while self._open:
                self._turn()

    def _turn(self) -> None:
        """Wait for the network, a timer or a batch of requests; let libcurl act; send the results.

        Requests of the server go first, and a turn is short: a TLS handshake takes a millisecond, and a request over an
        open connection must not wait for many of them. A socket that this turn leaves out is still ready in the next one.
        """
        self._guard.work_ends()
        ready = dict(self._epoll.poll(self._longest_wait_s()))
        self._guard.work_begins()
        ends_s = self._clock.monotonic_s() + _TURN_S
        server_events = ready.pop(self._server.fileno(), 0)
        if server_events:
            self._receive(server_events)
        dns_events = ready.pop(self._dns.fd, 0)
        if dns_events:
            self._take_answers()
        self._resolver.expire()
        if server_events or dns_events or not ready:
            self._timeout_s = -1
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        for fd, events in ready.items():
            if fd in self._watched:
                self._multi.socket_action(fd, _action(events))
                self._limit(fd)
            if self._clock.monotonic_s() > ends_s:
                break
        self._collect()
        self._guard.ended.clear()
        self._send_results()

    def _longest_wait_s(self) -> float:
        """How long the loop may wait for events: until libcurl or the resolver has something to do; -1 means for ever."""
        resolver_s = self._resolver.next_in_s()
        if resolver_s is None:
            return self._timeout_s
        return resolver_s if self._timeout_s < 0 else min(resolver_s, self._timeout_s)

    # -- requests ----------------------------------------------------------------------------------------------------

    def _receive(self, events: int) -> None:
        if not events & ~select.EPOLLOUT:
            return
        try:
            data = self._server.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._open = False
            return
        for batch in self._batches.read(data):
            self._apply(batch)

    def _apply(self, batch: SendBatch) -> None:
        """Start and cancel transfers and look-ups.

        The limit of libcurl's connection cache counts the connections in use as well. With a fixed limit, endpoints that
        hang would evict the idle connections of endpoints that answer, and every delivery would begin with a handshake.
        """
        self._finished.pings.extend(batch.pings)
        in_use = len(self._transfers) + len(batch.start)
        self._multi.setopt(pycurl.M_MAXCONNECTS, in_use + self._max_idle_connections)
        for number, request in batch.start:
            self._begin(number, request)
        for number, question in batch.look_up:
            add = partial(self._add_resolution, number)
            self._resolver.look_up(question.name, question.account_id, question.within_s, add)
        for number in batch.cancel:
            self._unresolved.discard(number)
            if number in self._transfers:  # it may have ended meanwhile
                self._release(number)

    def _begin(self, number: int, request: OutgoingRequest) -> None:
        """Look up the host name of a request, unless it is an address, and then start the transfer."""
        name, _ = host_of(request.url)
        if not name:
            self._start(number, request)
            return
        self._unresolved.add(number)
        send = partial(self._send_to, number, request, self._clock.monotonic_s())
        self._resolver.look_up(name, request.account_id, request.timeout_s, send)

    def _send_to(self, number: int, request: OutgoingRequest, began_s: float, found: Resolution) -> None:
        if number not in self._unresolved:
            return  # it was canceled
        self._unresolved.discard(number)
        waited_s = self._clock.monotonic_s() - began_s
        if found.addresses:
            self._start(number, request, found.addresses, waited_s)
        else:
            self._finished.results.append((number, not_sent(found.status, waited_s)))

    def _start(
        self, number: int, request: OutgoingRequest, addresses: tuple[str, ...] = (), waited_s: float = 0.0
    ) -> None:
        """Start a transfer. A request that libcurl does not take is answered at once: no other request is affected."""
        transfer = (
            self._idle.pop() if self._idle else Transfer(self._policy, self._certificates, self._names, self._used)
        )
        try:
            transfer.prepare(request, addresses, waited_s)
        except (pycurl.error, ValueError):
            transfer.handle.close()
            self._finished.results.append((number, SendResult.internal_error()))
            return
        self._transfers[number] = transfer
        self._numbers[transfer.handle] = number
        self._multi.add_handle(transfer.handle)

    def _add_resolution(self, number: int, resolution: Resolution) -> None:
        self._finished.resolutions.append((number, resolution))

    def _take_answers(self) -> None:
        for answer in self._dns.take():
            self._resolver.answered(answer)

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
        transfer = self._transfers[number]
        is_flooded = bool(self._guard.ended) and handle.getinfo(pycurl.LOCAL_PORT) in self._guard.ended
        self._finished.results.append((number, transfer.flooded() if is_flooded else transfer.result(code)))
        fd = handle.getinfo(pycurl.ACTIVESOCKET)  # -1 if libcurl has closed it
        if fd in self._watched:
            self._watched[fd].restart()
        if transfer.certificate_refused and fd != -1:
            shut_down(fd)  # libcurl keeps an HTTP/2 connection for other requests
        self._release(number)

    def _limit(self, fd: int) -> None:
        """End a connection that has received more than its requests can need, whatever the bytes are."""
        connection = self._watched.get(fd)
        if connection is None or (received := connection.look()) <= MAX_RECEIVED_BYTES:
            return
        self._collect()
        users = [number for number, each in self._transfers.items() if each.handle.getinfo(pycurl.ACTIVESOCKET) == fd]
        if received > MAX_RECEIVED_BYTES * max(1, len(users)):
            shut_down(fd)  # without a user it is in its handshake, which then fails
            for number in users:
                self._finished.results.append((number, self._transfers[number].flooded()))
                self._release(number)

    def _release(self, number: int) -> None:
        transfer = self._transfers.pop(number)
        del self._numbers[transfer.handle]
        self._multi.remove_handle(transfer.handle)
        if len(self._idle) < _MAX_IDLE_HANDLES:
            transfer.clear()
            self._idle.append(transfer)
        else:
            transfer.handle.close()

    def _watch(self, event: int, fd: int, _multi: object, _data: object) -> None:
        """Callback of libcurl: the events that it waits for on a socket have changed."""
        if event == pycurl.POLL_REMOVE:
            if self._watched.pop(fd, None) is not None:
                with contextlib.suppress(OSError):  # it may be closed already
                    self._epoll.unregister(fd)
        elif fd in self._watched:
            self._epoll.modify(fd, _POLLS[event])
        else:
            self._watched[fd] = ReceivedBytes(fd)
            self._epoll.register(fd, _POLLS[event])

    def _set_timer(self, timeout_ms: int) -> None:
        """Callback of libcurl: it wants to be called after so many milliseconds without an event; -1 means never."""
        self._timeout_s = timeout_ms / 1_000 if timeout_ms >= 0 else -1

    # -- results -----------------------------------------------------------------------------------------------------

    def _send_results(self) -> None:
        """Send one frame with all results of this turn; bytes that do not fit into the socket wait for the next turn."""
        waited = bool(self._unsent)
        if self._finished != _NOTHING:
            self._unsent += frame(self._finished)
            self._finished = ResultBatch([])
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
