"""The process that sends: what its end, its standing still and the server's end come to."""

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
from loyalpro.transport.courier import Courier
from loyalpro.transport.sender import CurlSender, SenderStopped
from loyalpro.transport.wire import Orders, frame
from support.receivers import Authority, Moody, RawServer, answer, good, hold

LOCAL = AddressPolicy(networks(["127.0.0.0/8", "::1/128"]))

LOOK_S = 0.05
OVERDUE_S = 0.5
HOUR_S = 3_600


class Stoppable(asyncio.SelectorEventLoop):
    """Its clock can be put forward: that is what time is like for a server that was stopped for a while."""

    stopped_s = 0.0

    def time(self) -> float:
        return super().time() + self.stopped_s


def request(url: str, timeout_s: float = 30) -> OutgoingRequest:
    return OutgoingRequest(url, (("Content-Type", "application/json"),), b"{}", timeout_s)


def run(authority: Authority, use: Callable[[CurlSender], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        sender = CurlSender(LOCAL, authority.ca_file, look_s=LOOK_S, overdue_s=OVERDUE_S)
        await sender.start()
        try:
            return await use(sender)
        finally:
            await sender.stop()

    return asyncio.run(main())


def children() -> list[int]:
    """The processes that this one has started and that live."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found if "courier" in Path(f"/proc/{pid}/cmdline").read_text()]


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_what_is_under_way_when_it_dies_is_interrupted_and_the_next_is_sent_by_another(
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


def test_one_that_stands_still_is_ended(authority: Authority, serve: Callable[..., RawServer]) -> None:
    server = serve(good)

    async def freeze(sender: CurlSender) -> tuple[SendResult, SendResult]:
        assert classify(await sender.send(request(server.url))) is OutcomeCode.SUCCEEDED
        os.kill(children()[0], signal.SIGSTOP)
        return await sender.send(request(server.url, timeout_s=0.1)), await sender.send(request(server.url))

    lost, sent = run(authority, freeze)
    assert classify(lost) is OutcomeCode.INTERRUPTED
    assert classify(sent) is OutcomeCode.SUCCEEDED


def test_one_that_reports_late_because_the_server_stood_still_is_left_alone(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    """The first look comes before its reports are read, and finds all of them overdue; a second one comes in an hour."""
    mood = Moody()
    server = serve(mood)

    async def stand_still() -> SendResult:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Stoppable)
        sender = CurlSender(LOCAL, authority.ca_file, look_s=HOUR_S)
        await sender.start()
        looked = asyncio.Event()
        loop.call_later(HOUR_S + 1, looked.set)
        mood.hold()
        task = asyncio.create_task(sender.send(request(server.url)))
        await asyncio.to_thread(server.wait_for, 1)
        loop.stopped_s = HOUR_S + 2
        await looked.wait()
        mood.let_go()
        try:
            return await task
        finally:
            await sender.stop()

    with asyncio.Runner(loop_factory=Stoppable) as runner:
        assert classify(runner.run(stand_still())) is OutcomeCode.SUCCEEDED


def test_an_idle_handle_holds_nothing_of_its_last_request(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    server = serve(lambda connection, _: connection.sendall(answer(200, b"x" * 16_000, X_Large="x" * 16_000)))
    with courier_beside_us(authority) as connection, connection.makefile("rb") as reports:
        tracemalloc.start()
        connection.sendall(frame(Orders([(1, OutgoingRequest(server.url, (), b"x" * 100_000, 30))], [])))
        report = reports.read(int.from_bytes(reports.read(4), "big"))
        held = tracemalloc.take_snapshot()
        tracemalloc.stop()
    assert b"x" * 16_000 in report
    theirs = [trace.size for trace in held.traces if trace.traceback[0].filename in (transfer.__file__, wire.__file__)]
    assert sum(theirs) < 8_000


@contextmanager
def courier_beside_us(authority: Authority) -> Iterator[socket.socket]:
    """A courier in a thread of this process, and the other end of its socket."""
    ours, theirs = socket.socketpair()
    certificates = transfer.CertificateBundle(authority.ca_file)
    courier = Courier(theirs, LOCAL, certificates.path, SystemClock(), most_idle_connections=1)
    thread = threading.Thread(target=courier.run)
    thread.start()
    with theirs, ours:
        yield ours
        ours.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_for_the_server_leave_it_alone(
    authority: Authority, serve: Callable[..., RawServer], number: signal.Signals
) -> None:
    """A terminal and a supervisor send them to every process there is; what is under way is to finish first."""
    server = serve(good)

    async def tell(sender: CurlSender) -> SendResult:
        await sender.send(request(server.url))
        os.kill(children()[0], number)
        return await sender.send(request(server.url))

    assert classify(run(authority, tell)) is OutcomeCode.SUCCEEDED
    assert server.connections == 1


def test_it_knows_nothing_of_the_keys(
    authority: Authority, serve: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor of the database, however the server was told of it, nor of anything else that a process can do without."""
    for name in ("LOYALPRO_SECRET_KEY", "PGPASSWORD", "PGSERVICEFILE", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a secret that endpoints must never get near")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    server = serve(good)

    async def look(sender: CurlSender) -> bytes:
        await sender.send(request(server.url))
        return environment_of(children()[0])

    environment = run(authority, look).split(b"\0")
    assert {f"PATH={os.environ['PATH']}".encode(), b"LC_ALL=C.UTF-8"} <= set(environment)
    assert not [each for each in environment if b"a secret" in each]


@pytest.mark.parametrize("stands_still", [False, True])
def test_it_ends_with_its_server(serve: Callable[..., RawServer], *, stands_still: bool) -> None:
    """However the server ends: here it is killed while a request hangs, and even while nothing else moves any more."""
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
        [courier] = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        watch = os.pidfd_open(int(courier))
        if stands_still:
            os.kill(int(courier), signal.SIGSTOP)
        server.kill()
    assert select.select([watch], [], [], 30)[0], "the courier lives on"
    os.close(watch)


def test_one_that_cannot_be_started_is_seen(
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


def test_nothing_is_sent_after_the_end(authority: Authority) -> None:
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
