"""How many bytes a connection of libcurl has received, as the kernel counts them.

libcurl limits headers and bodies. Other bytes it reads without end and without a report: chunk extensions, padding, TLS
records, the PING, SETTINGS and WINDOW_UPDATE frames of HTTP/2.
"""

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_EVENTS: Final = 4
"""The kernel is asked from this event of a socket on. A response on a kept connection takes one or two."""
_TCP_INFO_BYTES: Final = 136
_BYTES_RECEIVED: Final = slice(128, 136)
"""`tcpi_bytes_received` in Linux's `struct tcp_info`: https://www.rfc-editor.org/rfc/rfc4898#section-4"""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class UsedBytes:
    """Counts the bytes of headers and bodies that libcurl has handed over, on all connections."""

    count: int = 0


class ReceivedBytes:
    """Counts what arrives at one socket while it is in use; the count starts again when a request over it has ended."""

    __slots__ = ("_events", "_fd", "_start")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._events = 0
        self._start: int | None = None

    def restart(self) -> None:
        """Count from the next look on."""
        self._events = 0
        self._start = None

    def look(self) -> int:
        """Return, after an event, how many bytes have arrived since the kernel was first asked; 0 before that."""
        self._events += 1
        if self._events < _EVENTS:
            return 0
        total = bytes_received(self._fd)
        if self._start is None:
            self._start = total
        return total - self._start


def bytes_received(fd: int) -> int:
    """Return the bytes that a socket has received since it was connected; 0 for another kind of file."""
    with contextlib.suppress(OSError), _borrowed(fd) as connection:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        return int.from_bytes(info[_BYTES_RECEIVED], sys.byteorder)
    return 0


def local_port(fd: int) -> int:
    """Return the local port of a socket; -1 when it has none."""
    with contextlib.suppress(OSError), _borrowed(fd) as connection:
        return int(connection.getsockname()[1])
    return -1


def shut_down(fd: int) -> None:
    """End the connection of a socket, which stays open: libcurl closes it when it next looks at it."""
    with contextlib.suppress(OSError), _borrowed(fd) as connection:  # the peer may have ended it
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    """A socket object for a descriptor that libcurl owns, and which therefore stays open."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=fd)
    try:
        yield connection
    finally:
        connection.detach()
