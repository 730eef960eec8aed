"""The sender process: what follows when it dies, when it hangs, and when its server ends."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, SendResult, classify
from loyalpro.kernel.clock import SystemClock
from loyalpro.transport import transfer, wire
from loyalpro.transport.address_policy import AddressPolicy, networks
from loyalpro.transport.dns import Dns
from loyalpro.transport.sender import CurlSender, SenderStopped
from loyalpro.transport.sender_process import SenderProcess
from loyalpro.transport.wire import SendBatch, frame
from support.receivers import Authority, RawServer, Responder, answer, good, hold

LOCAL = AddressPolicy(networks(["127.0.0.0/8", "::1/128"]))

CHECK_S = 0.05
OVERDUE_S = 0.5
HOUR_S = 3_600


class PausableLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be moved forward, as after a pause of the whole server."""

    paused_s = 0.0

    def time(self) -> float:
        return super().time() + self.paused_s


def request(url: str, timeout_s: float = 30) -> OutgoingRequest:
    return OutgoingRequest(url, (("Content-Type", "application/json"),), b"{}", timeout_s)


def run(authority: Authority, use: Callable[[CurlSender], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        sender = CurlSender(LOCAL, authority.ca_file, check_s=CHECK_S, overdue_s=OVERDUE_S)
        await sender.start()
        try:
            return await use(sender)
        finally:
            await sender.stop()

    return asyncio.run(main())


def children() -> list[int]:
    """The sender processes that this process has started and that are alive."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found if "sender_process" in Path(f"/proc/{pid}/cmdline").read_text()]


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_open_requests_of_a_killed_process_are_interrupted_and_the_next_request_starts_another(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    silent, healthy = serve(hold, plain=True, reads=False), serve(good)

    async def kill(sender: CurlSender) -> tuple[SendResult, list[int], SendResult, list[int]]:
        task = asyncio.create_task(sender.send(request(silent.url)))
        await asyncio.to_thread(silent.wait_for_connections, 1)
        first = children()
        os.kill(first[0], signal.SIGKILL)
        lost = await task
        assert sender.alive
        return lost, first, await sender.send(request(healthy.url)), children()

    lost, first, sent, second = run(authority, kill)
    assert classify(lost) is OutcomeCode.INTERRUPTED
    assert classify(sent) is OutcomeCode.SUCCEEDED
    assert len(first) == len(set(second) - set(first)) == 1


def test_an_unresponsive_process_is_killed(authority: Authority, serve: Callable[..., RawServer]) -> None:
    server = serve(good)

    async def freeze(sender: CurlSender) -> tuple[SendResult, SendResult]:
        assert classify(await sender.send(request(server.url))) is OutcomeCode.SUCCEEDED
        os.kill(children()[0], signal.SIGSTOP)
        return await sender.send(request(server.url, timeout_s=0.1)), await sender.send(request(server.url))

    lost, sent = run(authority, freeze)
    assert classify(lost) is OutcomeCode.INTERRUPTED
    assert classify(sent) is OutcomeCode.SUCCEEDED


def test_a_process_whose_results_are_read_late_after_a_pause_of_the_server_is_not_killed(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    """The first check runs before the results are read, and finds a request overdue; the second would be an hour later."""
    responder = Responder()
    server = serve(responder)

    async def pause() -> SendResult:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PausableLoop)
        sender = CurlSender(LOCAL, authority.ca_file, check_s=HOUR_S)
        await sender.start()
        checked = asyncio.Event()
        loop.call_later(HOUR_S + 1, checked.set)
        responder.hold()
        task = asyncio.create_task(sender.send(request(server.url)))
        await asyncio.to_thread(server.wait_for, 1)
        loop.paused_s = HOUR_S + 2
        await checked.wait()
        responder.release()
        try:
            return await task
        finally:
            await sender.stop()

    with asyncio.Runner(loop_factory=PausableLoop) as runner:
        assert classify(runner.run(pause())) is OutcomeCode.SUCCEEDED


def test_an_idle_handle_keeps_no_memory_of_its_last_request(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    server = serve(lambda connection, _: connection.sendall(answer(200, b"x" * 16_000, X_Large="x" * 16_000)))
    with sender_process_in_a_thread(authority) as connection, connection.makefile("rb") as results:
        tracemalloc.start()
        connection.sendall(frame(SendBatch([(1, OutgoingRequest(server.url, (), b"x" * 100_000, 30))], [])))
        result = results.read(int.from_bytes(results.read(4), "big"))
        held = tracemalloc.take_snapshot()
        tracemalloc.stop()
    assert b"x" * 16_000 in result
    kept = [trace.size for trace in held.traces if trace.traceback[0].filename in (transfer.__file__, wire.__file__)]
    assert sum(kept) < 8_000


@contextmanager
def sender_process_in_a_thread(authority: Authority) -> Iterator[socket.socket]:
    """Run the loop of a sender process in a thread of this one, and yield the other end of its socket."""
    ours, theirs = socket.socketpair()
    certificates = transfer.CertificateBundle(authority.ca_file)
    process = SenderProcess(theirs, LOCAL, certificates.path, SystemClock(), Dns(), max_idle_connections=1)
    thread = threading.Thread(target=process.run)
    thread.start()
    with theirs, ours:
        yield ours
        ours.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_for_the_server_do_not_end_the_process(
    authority: Authority, serve: Callable[..., RawServer], number: signal.Signals
) -> None:
    """A terminal or a supervisor signals all processes of the group; open requests must finish first."""
    server = serve(good)

    async def signal_it(sender: CurlSender) -> SendResult:
        await sender.send(request(server.url))
        os.kill(children()[0], number)
        return await sender.send(request(server.url))

    assert classify(run(authority, signal_it)) is OutcomeCode.SUCCEEDED
    assert server.connections == 1


def test_the_process_gets_no_secret_of_the_environment(
    authority: Authority, serve: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor any other variable that it can do without, such as those of the database."""
    for name in ("LOYALPRO_SECRET_KEY", "PGPASSWORD", "PGSERVICEFILE", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a secret that must stay in the server")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    server = serve(good)

    async def read_environment(sender: CurlSender) -> bytes:
        await sender.send(request(server.url))
        return environment_of(children()[0])

    environment = run(authority, read_environment).split(b"\0")
    assert {f"PATH={os.environ['PATH']}".encode(), b"LC_ALL=C.UTF-8"} <= set(environment)
    assert not [each for each in environment if b"a secret" in each]


@pytest.mark.parametrize("is_stopped", [False, True])
def test_the_process_ends_with_its_server(serve: Callable[..., RawServer], *, is_stopped: bool) -> None:
    """The server is killed during a request that hangs; the process ends even while it is stopped itself."""
    silent = serve(hold, plain=True, reads=False)
    program = f"""
import asyncio, pathlib
from loyalpro.transport.sender import CurlSender
from loyalpro.transport.address_policy import AddressPolicy, networks
from loyalpro.delivery.attempt import OutgoingRequest
async def main():
    sender = CurlSender(AddressPolicy(networks(["127.0.0.0/8", "::1/128"])))
    await sender.start()
    await sender.send(OutgoingRequest({silent.url!r}, (), b"", 30))
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program]) as server:
        silent.wait_for_connections(1)
        [process] = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        watch = os.pidfd_open(int(process))
        if is_stopped:
            os.kill(int(process), signal.SIGSTOP)
        server.kill()
    assert select.select([watch], [], [], 30)[0], "the sender process outlives its server"
    os.close(watch)


def test_a_sender_whose_process_cannot_be_started_is_not_alive(
    authority: Authority, serve: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = serve(hold, plain=True, reads=False)

    async def remove(sender: CurlSender) -> bool:
        task = asyncio.create_task(sender.send(request(silent.url)))
        await asyncio.to_thread(silent.wait_for_connections, 1)
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        os.kill(children()[0], signal.SIGKILL)
        await task
        with pytest.raises(OSError, match="nowhere"):
            await sender.send(request(silent.url))
        return sender.alive

    assert not run(authority, remove)


def test_a_stopped_sender_sends_nothing(authority: Authority) -> None:
    async def late() -> None:
        sender = CurlSender(LOCAL, authority.ca_file)
        await sender.start()
        alive = [sender.alive]
        await sender.stop()
        assert [*alive, sender.alive] == [True, False]
        with pytest.raises(SenderStopped):
            await sender.send(request("https://127.0.0.1/"))
        assert not children()

    asyncio.run(late())
