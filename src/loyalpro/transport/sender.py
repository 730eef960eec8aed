"""Sends over HTTPS through the sender process, which gives libcurl a CPU core of its own, and replaces one that ends."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from loyalpro.delivery.attempt import OutgoingRequest, SendResult
from loyalpro.kernel.errors import NameNotLookedUp
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.resolver import Resolution, ResolutionStatus
from loyalpro.transport.sender_client import SenderClient
from loyalpro.transport.transfer import CertificateBundle
from loyalpro.transport.wire import Question

_CHECK_S: Final = 2.0
_OVERDUE_S: Final = 10.0
_SILENT_S: Final = 3.5
_LOOK_UP_S: Final = 8.0
_NOT_LOOKED_UP: Final = (
    "There was no time to look up the host name, because many look-ups are under way. Nothing was changed; repeat the call "
    "in a few seconds."
)
_INHERITED: Final = re.compile(
    "PATH|HOME|TMPDIR|TZ|TZDIR|LANG|LANGUAGE|LC_.*|PYTHON.*|LD_LIBRARY_PATH|LD_PRELOAD|OPENSSL_CONF|OPENSSL_MODULES"
    "|RES_OPTIONS|LOCALDOMAIN|HOSTALIASES"
)
"""The environment variables that Python, its libraries and the resolver read."""


class SenderStopped(Exception):
    """The sender is stopped, so the request was not sent."""


class CurlSender:
    """Satisfies `delivery.attempt.Sender`. Call `start` before the first `send`, and `stop` after the last.

    When the sender process ends by itself, its open requests end as `interrupted`, and the next request starts another
    process. A process that has not answered a ping for `silent_s`, or that has not answered `overdue_s` after the time of a
    request was up, is killed and replaced: with the default values within 10 seconds.

    `dns_servers`: `address` or `address:port`; empty for those of the system. `look_up_s`: how long `look_up` may take.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        ca_file: Path | None = None,
        *,
        dns_servers: Sequence[str] = (),
        look_up_s: float = _LOOK_UP_S,
        max_idle_connections: int = 2_000,
        check_s: float = _CHECK_S,
        overdue_s: float = _OVERDUE_S,
        silent_s: float = _SILENT_S,
    ) -> None:
        self._policy = policy
        self._dns_servers = dns_servers
        self._look_up_s = look_up_s
        self._max_idle_connections = max_idle_connections
        self._check_s = check_s
        self._overdue_s = overdue_s
        self._silent_s = silent_s
        self._bundle = CertificateBundle(ca_file)
        self._client: SenderClient | None = None
        self._starting = asyncio.Lock()
        self._stopped = True
        self._last_start_succeeded = False
        self._replacement: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether requests can be sent: the process responds, or has ended by itself and another one can be started."""
        return self._last_start_succeeded and not self._stopped and not self._is_suspected

    @property
    def _is_suspected(self) -> bool:
        return self._client is not None and self._client.suspected

    @property
    def process_id(self) -> int | None:
        """The process id of the sender process; None while there is none."""
        client = self._client
        return client.process.pid if client is not None and client.alive else None

    async def start(self) -> None:
        """Start the process. Raises OSError when that is not possible."""
        self._stopped = False
        await self._running_client()

    async def stop(self) -> None:
        """End the process. Open requests are abandoned: their callers do not wait any more."""
        self._stopped = True
        async with self._starting:
            client, self._client = self._client, None
            if client is not None:
                await client.stop()

    async def send(self, request: OutgoingRequest) -> SendResult:
        """Send a request and wait for its result; a canceled call cancels the transfer.

        Raises SenderStopped after `stop`, and OSError when no process can be started.
        """
        client = self._client
        if client is None or not client.alive:
            client = await self._running_client()
        return await client.send(request)

    async def look_up(self, name: str, account_id: str) -> Resolution:
        """Look up the addresses of a host name. The status is not `no_time`.

        The sender process does it, which keeps answers that come from strangers out of the server. Raises NameNotLookedUp
        when the account has too many look-ups under way, or when there is no sender process.
        """
        try:
            resolution = await (await self._running_client()).look_up(Question(name, account_id, self._look_up_s))
        except (SenderStopped, OSError):
            raise NameNotLookedUp(_NOT_LOOKED_UP) from None
        if resolution.status is ResolutionStatus.NO_TIME:
            raise NameNotLookedUp(_NOT_LOOKED_UP)
        return resolution

    async def _running_client(self) -> SenderClient:
        async with self._starting:
            if self._stopped:
                raise SenderStopped("The sender is stopped; start it before a request is sent.")
            if self._client is not None and not self._client.alive:
                await self._client.stop()
                self._client = None
            if self._client is None:
                self._client = await self._start_process()
            return self._client

    def _replace_process(self) -> None:
        self._replacement = asyncio.get_running_loop().create_task(self._start_replacement(), name="sender replacement")

    async def _start_replacement(self) -> None:
        """Start another process now: `alive` is False until there is one. If that fails, the next request tries again."""
        try:
            await self._running_client()
        except SenderStopped:
            return
        except OSError as error:
            structlog.get_logger("transport").error("sender_process_not_started", reason=str(error))

    async def _start_process(self) -> SenderClient:
        """Start a process. Requests may be handed over at once: it reads them when it is up."""
        self._last_start_succeeded = False
        ours, theirs = socket.socketpair()
        try:
            process = self._spawn(theirs.fileno())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        loop = asyncio.get_running_loop()
        client = SenderClient(process, loop, self._check_s, self._overdue_s, self._silent_s, self._replace_process)
        await loop.create_unix_connection(lambda: client, sock=ours)
        self._last_start_succeeded = True
        return client

    def _spawn(self, socket_fd: int) -> "subprocess.Popen[bytes]":
        """The process talks to strangers, so of the server's environment, which holds secret keys, it gets the minimum."""
        arguments = [str(socket_fd), self._bundle.path, str(self._max_idle_connections), ",".join(self._dns_servers)]
        arguments += map(str, self._policy.allow)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "loyalpro.transport.sender_process", *arguments],
            pass_fds=(socket_fd, self._bundle.fd),
            env={name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)},
            stdin=subprocess.DEVNULL,
        )
