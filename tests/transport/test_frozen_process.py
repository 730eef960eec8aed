"""A sender process that does not respond is noticed, whether requests are open or not, and is replaced."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from loyalpro.delivery.attempt import OutcomeCode, SendResult, classify
from loyalpro.transport.sender import CurlSender
from support.receivers import Authority, RawServer, good, hold
from support.sending import LOCAL, request

CHECK_S = 0.05
SILENT_S = 2.0
"""A process on a loaded machine answers within this time."""


def run(authority: Authority, use: Callable[[CurlSender], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        sender = CurlSender(LOCAL, authority.ca_file, check_s=CHECK_S, silent_s=SILENT_S)
        await sender.start()
        try:
            return await use(sender)
        finally:
            await sender.stop()

    return asyncio.run(main())


def freeze(sender: CurlSender) -> int:
    pid = sender.process_id
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    return pid


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a turn of the event loop after which `holds` is true."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.to_thread(select.select, [], [], [], CHECK_S)


def test_a_frozen_process_without_requests_is_logged_not_alive_and_replaced(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    server = serve(good)

    async def use(sender: CurlSender) -> SendResult:
        await sender.send(request(server.url))
        frozen = freeze(sender)
        await until(lambda: not sender.alive)
        await until(lambda: sender.alive)
        assert sender.process_id not in {None, frozen}
        return await sender.send(request(server.url))

    with capture_logs() as logs:
        assert classify(run(authority, use)) is OutcomeCode.SUCCEEDED
    assert [(each["event"], each["log_level"]) for each in logs] == [("sender_process_unresponsive", "error")]


def test_open_requests_of_a_frozen_process_are_interrupted_long_before_their_deadline(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    silent, healthy = serve(hold, plain=True, reads=False), serve(good)

    async def use(sender: CurlSender) -> list[SendResult]:
        open_request = asyncio.create_task(sender.send(request(silent.url, timeout_s=3_600)))
        await asyncio.to_thread(silent.wait_for_connections, 1)
        freeze(sender)
        late = asyncio.create_task(sender.send(request(healthy.url, timeout_s=3_600)))
        results = await asyncio.wait_for(asyncio.gather(open_request, late), 60)
        return [*results, await sender.send(request(healthy.url))]

    outcomes = [classify(each) for each in run(authority, use)]
    assert outcomes == [OutcomeCode.INTERRUPTED, OutcomeCode.INTERRUPTED, OutcomeCode.SUCCEEDED]


def test_a_process_that_is_frozen_at_the_end_does_not_stop_the_sender_from_stopping(authority: Authority) -> None:
    async def use(sender: CurlSender) -> int:
        return freeze(sender)

    pid = run(authority, use)
    assert not Path(f"/proc/{pid}").exists()


def test_a_pause_of_the_server_itself_does_not_kill_its_healthy_process(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    """The server is stopped for longer than a process may be silent, and the answer to its ping waits meanwhile."""
    server = serve(good)
    program = f"""
import asyncio
from loyalpro.delivery.attempt import OutgoingRequest
from loyalpro.transport.address_policy import AddressPolicy, networks
from loyalpro.transport.sender import CurlSender
async def main():
    sender = CurlSender(AddressPolicy(networks(["127.0.0.0/8"])), check_s=0.2, silent_s=0.5)
    await sender.start()
    for _ in range(2):
        print(sender.process_id, flush=True)
        await asyncio.to_thread(input)
        await asyncio.sleep(1)  # several checks
        await sender.send(OutgoingRequest({server.url!r}, (), b"", 10))
    await sender.stop()
asyncio.run(main())
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        before = process.stdout.readline()
        os.kill(process.pid, signal.SIGSTOP)
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert not select.select([process.stdout], [], [], 2)[0], "the server is stopped, so it prints nothing"
        os.kill(process.pid, signal.SIGCONT)
        after = process.stdout.readline()
        process.communicate(b"\n", timeout=60)
    assert before == after
