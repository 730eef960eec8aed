"""The socket in the data folder of a SQLite server, through which commands on the same machine reach it.

Only the user of the server and root can connect: the file has the mode 0600, and the user of each connection is checked. A
connection makes one request, of a limited size and in a limited time, and a limited number of connections is served at once.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from loyalpro.control.wire import MAX_BYTES
from loyalpro.kernel.clock import Clock

_LONGEST_ADDRESS: Final = 107
"""`sun_path` has 108 bytes, and the last one is a NUL."""
_CREDENTIALS: Final = struct.Struct("3i")
_MAX_CONNECTIONS: Final = 8
_BACKLOG: Final = 64
_TIMEOUT_S: Final = 10.0
_PAUSE_S: Final = 1.0
_ROOT: Final = 0

Answer = Callable[[bytes], Awaitable[bytes]]


def socket_path(database: Path) -> Path:
    """Where the socket of the server of a SQLite file is."""
    return database.with_name(database.name + ".sock")


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """The path to give to `bind` or `connect`. A long one is replaced by the path of an open descriptor of its folder."""
    text = os.fspath(path)
    if len(os.fsencode(text)) <= _LONGEST_ADDRESS:
        yield text
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class ControlSocket:
    """Listens from `start` to `stop`. The caller holds the lock of the database, so an existing file has no listener.

    `users`: the ids of those who may connect; by default the user of the server, and root.
    """

    def __init__(self, path: Path, answer: Answer, clock: Clock, users: Collection[int] | None = None) -> None:
        self._path = path
        self._answer = answer
        self._clock = clock
        self._users = (os.geteuid(), _ROOT) if users is None else users
        self._log = structlog.get_logger("server")
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Replace the file and listen. A server whose folder can have no socket runs without one, and logs a warning."""
        try:
            self._listener = _listen(self._path)
        except OSError as error:
            self._log.warning("control_socket_unavailable", path=str(self._path), reason=error.strerror or str(error))
            return
        self._accepting = asyncio.create_task(self._accept(self._listener), name="control socket")

    async def stop(self) -> None:
        """End the connections, and remove the file."""
        tasks = [*self._serving, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # no file descriptor is free
                await self._clock.wait(asyncio.Event(), _PAUSE_S)
                continue
            if len(self._serving) >= _MAX_CONNECTIONS or _peer(connection) not in self._users:
                connection.close()
                continue
            connection.setblocking(False)
            task = asyncio.create_task(self._serve(connection), name="control connection")
            self._serving.add(task)
            task.add_done_callback(partial(self._end, connection))

    def _end(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        """Runs also for a task that was canceled before its first step."""
        self._serving.discard(task)
        connection.close()

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_TIMEOUT_S):
                line = await _line(loop, connection)
            if line is not None:
                reply = await self._answer(line)
                async with asyncio.timeout(_TIMEOUT_S):
                    await loop.sock_sendall(connection, reply)


def _listen(path: Path) -> socket.socket:
    """A listening socket with the mode 0600. No connection succeeds before `listen`, so the mode is in force in time."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        with address(path) as where:
            listener.bind(where)
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _peer(connection: socket.socket) -> int:
    """The user of the process at the other end, as the kernel knows it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    return int(user)


async def _line(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes | None:
    """The first line that the peer sends; None when the peer sends no whole line, or too long a one."""
    received = bytearray()
    while b"\n" not in received:
        chunk = await loop.sock_recv(connection, MAX_BYTES)
        received += chunk
        if not chunk or len(received) > MAX_BYTES:
            return None
    return bytes(received.partition(b"\n")[0])
