"""Sends over HTTPS through the sender process, which gives libcurl a CPU core of its own, and replaces one that ends."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from loyalpro.delivery.attempt import OutgoingRequest, SendResult
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.sender_client import SenderClient
from loyalpro.transport.transfer import CertificateBundle

_CHECK_S: Final = 5.0
_OVERDUE_S: Final = 10.0
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
    process. A process that has not answered `overdue_s` after the time of a request was up is killed.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        ca_file: Path | None = None,
        *,
        max_idle_connections: int = 2_000,
        check_s: float = _CHECK_S,
        overdue_s: float = _OVERDUE_S,
    ) -> None:
        self._policy = policy
        self._max_idle_connections = max_idle_connections
        self._check_s = check_s
        self._overdue_s = overdue_s
        self._bundle = CertificateBundle(ca_file)
        self._client: SenderClient | None = None
        self._starting = asyncio.Lock()
        self._stopped = True
        self._last_start_succeeded = False

    @property
    def alive(self) -> bool:
        """Whether requests can be sent. A process that has ended does not count, unless no other can be started."""
        return self._last_start_succeeded and not self._stopped

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
        client = SenderClient(process, loop, self._check_s, self._overdue_s)
        await loop.create_unix_connection(lambda: client, sock=ours)
        self._last_start_succeeded = True
        return client

    def _spawn(self, socket_fd: int) -> "subprocess.Popen[bytes]":
        """The process talks to strangers, so of the server's environment, which holds secret keys, it gets the minimum."""
        arguments = [str(socket_fd), self._bundle.path, str(self._max_idle_connections), *map(str, self._policy.allow)]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "loyalpro.transport.sender_process", *arguments],
            pass_fds=(socket_fd, self._bundle.fd),
            env={name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)},
            stdin=subprocess.DEVNULL,
        )
