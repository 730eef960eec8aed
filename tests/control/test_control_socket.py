"""The control socket: who can connect, and what hostile, slow and dead peers can do."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from loyalpro.control.client import call
from loyalpro.control.control_socket import ControlSocket, socket_path
from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import StoreUnavailable


async def echo(line: bytes) -> bytes:
    return line + b"!\n"


@asynccontextmanager
async def listening(
    path: Path, answer: Callable[[bytes], Awaitable[bytes]] = echo, **more: Any
) -> AsyncIterator[ControlSocket]:
    control = ControlSocket(path, answer, SystemClock(), **more)
    await control.start()
    try:
        yield control
    finally:
        await control.stop()


async def ask(path: Path, line: bytes = b"hello\n") -> bytes | None:
    return await asyncio.to_thread(call, path, line)


def connect(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(30)
    try:
        peer.connect(os.fspath(path))
    except OSError:
        peer.close()
        raise
    return peer


def test_the_socket_is_beside_the_database(tmp_path: Path) -> None:
    assert socket_path(tmp_path / "loyalpro.db") == tmp_path / "loyalpro.db.sock"


def mode(path: Path) -> tuple[bool, int] | None:
    """Whether a file is a socket, and its rights; None when there is none."""
    if not path.exists():
        return None
    bits = path.stat().st_mode
    return stat.S_ISSOCK(bits), stat.S_IMODE(bits)


async def _is_private_and_answers(path: Path) -> None:
    async with listening(path):
        assert mode(path) == (True, 0o600)
        assert [await ask(path) for _ in range(20)] == [b"hello!\n"] * 20
    assert mode(path) is None
    assert await ask(path) is None


def test_the_socket_is_private_answers_and_is_removed(tmp_path: Path) -> None:
    asyncio.run(_is_private_and_answers(tmp_path / "s.sock"))


def test_a_path_that_is_too_long_for_a_socket_works(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    asyncio.run(_is_private_and_answers(folder / "loyalpro.db.sock"))


def test_the_socket_of_a_server_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(os.fspath(path))
        dead.listen()
    assert path.exists()
    assert call(path, b"hello\n") is None
    asyncio.run(_is_private_and_answers(path))


def test_a_folder_without_sockets_does_not_stop_the_server(tmp_path: Path) -> None:
    async def start() -> None:
        async with listening(tmp_path):
            pass

    with capture_logs() as logs:
        asyncio.run(start())
    [line] = logs
    assert tmp_path.is_dir()
    assert (line["event"], line["log_level"]) == ("control_socket_unavailable", "warning")


def test_another_user_is_not_answered(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"

    async def attempt() -> None:
        async with listening(path, users=[os.geteuid() + 1]):
            with pytest.raises(StoreUnavailable, match="did not answer"):
                await ask(path)

    asyncio.run(attempt())


def test_silent_peers_delay_nobody_while_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"

    async def attempt() -> None:
        async with listening(path):
            silent = [connect(path) for _ in range(7)]
            silent[0].sendall(b"half a line")
            assert await ask(path) == b"hello!\n"
            for each in silent:
                each.close()
            assert await _reply_when_there_is_room(path) == b"hello!\n"

    asyncio.run(attempt())


async def _reply_when_there_is_room(path: Path) -> bytes | None:
    while True:
        with suppress(StoreUnavailable):
            return await ask(path)


@pytest.mark.parametrize("sent", [b"x" * 65_537, b"x" * 65_537 + b"\n", b"no line", b""])
def test_a_peer_that_sends_no_whole_line_gets_no_reply(tmp_path: Path, sent: bytes) -> None:
    path = tmp_path / "s.sock"
    asked: list[bytes] = []

    async def answer(line: bytes) -> bytes:
        asked.append(line)
        return line

    def talk() -> bytes:
        with connect(path) as peer, suppress(ConnectionError):
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
            return peer.recv(100)
        return b""

    async def attempt() -> None:
        async with listening(path, answer):
            assert await asyncio.to_thread(talk) == b""

    asyncio.run(attempt())
    assert asked == []


def test_a_peer_that_leaves_before_the_reply_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    large = b"x" * 10_000_000 + b"\n"

    def leave() -> None:
        with connect(path) as peer, suppress(ConnectionError):
            peer.sendall(b"hello\n")

    async def answer(line: bytes) -> bytes:
        return large

    async def attempt() -> None:
        async with listening(path, answer):
            for _ in range(20):
                await asyncio.to_thread(leave)
            assert await _reply_when_there_is_room(path) == large

    asyncio.run(attempt())


def test_a_stop_ends_requests_that_are_under_way(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"

    async def attempt() -> None:
        arrived = asyncio.Event()

        async def never(line: bytes) -> bytes:
            arrived.set()
            await asyncio.Event().wait()
            return line

        async with listening(path, never):
            asking = asyncio.create_task(ask(path))
            await arrived.wait()
        with pytest.raises(StoreUnavailable, match="loyalpro keys list"):
            await asking

    asyncio.run(attempt())


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from loyalpro.control.client import call
from loyalpro.kernel.errors import ConfigurationError
if os.geteuid() == 0:
    os.setuid(65534)
try:
    call(Path(sys.argv[1]), b"hello")
except ConfigurationError as error:
    print(error.detail)
"""


def test_another_user_cannot_connect_and_is_told_which_user_can(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"

    async def attempt() -> str:
        async with listening(path):
            if os.geteuid() != 0:
                path.chmod(0)
            program = [sys.executable, "-c", AS_ANOTHER_USER, str(path)]
            return await asyncio.to_thread(lambda: subprocess.check_output(program, text=True))

    assert "belongs to another user" in asyncio.run(attempt())
