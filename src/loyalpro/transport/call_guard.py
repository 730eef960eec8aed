"""Ends the connection whose bytes keep libcurl from returning.

libcurl and OpenSSL read some bytes in a loop until none are left, and heed no time limit meanwhile: HelloRequest messages of a
handshake, session tickets, GOAWAY frames. A peer that sends them as fast as they are read would stop all other transfers.
"""

import threading
from collections.abc import Iterable
from typing import Final, Self

from loyalpro.transport.limits import MAX_RECEIVED_BYTES
from loyalpro.transport.received_bytes import UsedBytes, bytes_received, local_port, shut_down

_LOOK_S: Final = 0.02


class CallGuard:
    """A thread that looks, every 20 ms, whether the loop of the process still moves. A context manager.

    While one turn lasts, a connection that is not read receives no more than its receive buffer holds. One that receives more
    is what libcurl is reading. When it receives more than is used for responses, it is shut down: libcurl then finds its end.
    """

    def __init__(self, sockets: Iterable[int], used: UsedBytes) -> None:
        self._sockets = sockets
        self._used = used
        self._turn = 0
        self._at_work = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.ended: set[int] = set()
        """The local ports of the connections that were ended."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def work_begins(self) -> None:
        """The loop has stopped waiting, and calls libcurl."""
        self._turn += 1
        self._at_work = True

    def work_ends(self) -> None:
        """The loop waits for the next event."""
        self._at_work = False

    def _run(self) -> None:
        seen = -1
        useless: dict[int, int] = {}
        while not self._stopped.wait(_LOOK_S):
            if not self._at_work or self._turn != seen:
                seen, useless = self._turn, {}
            elif not useless:
                useless = {fd: self._useless(fd) for fd in list(self._sockets)}
            else:
                self._end_growing(useless)

    def _end_growing(self, useless: dict[int, int]) -> None:
        for fd, before in useless.items():
            if self._useless(fd) - before > MAX_RECEIVED_BYTES:
                self.ended.add(local_port(fd))
                shut_down(fd)

    def _useless(self, fd: int) -> int:
        """A number that grows with each byte that arrives at the socket and is not used; its value has no meaning."""
        return bytes_received(fd) - self._used.count
