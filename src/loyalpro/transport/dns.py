"""The DNS servers, asked through c-ares: any number of questions at once, from one thread of its own.

c-ares reads /etc/hosts, the `hosts` line of /etc/nsswitch.conf, /etc/resolv.conf (again when it changes) and `RES_OPTIONS`.
It makes its own time-outs from how quickly a server answers as a rule.
"""

import contextlib
import os
import socket
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

import pycares
from pycares import errno

from loyalpro.transport.resolver import NO_ADDRESS, NO_ANSWER, Answer, Resolution, ResolutionStatus

_TRIES: Final = 6  # the time-out doubles from 250 ms or more: fewer tries would not use the time that a look-up has
_WITHOUT_ADDRESS: Final = frozenset({errno.ARES_ENODATA, errno.ARES_ENOTFOUND, errno.ARES_EBADNAME})


class Dns:
    """Satisfies `resolver.NameService`. `servers`: `address` or `address:port`; empty for those of /etc/resolv.conf."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._answers: deque[Answer] = deque()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        tries = None if "attempts:" in os.environ.get("RES_OPTIONS", "") else _TRIES
        self._channel = pycares.Channel(servers=servers or None, tries=tries)

    @property
    def fd(self) -> int:
        """Readable while there are answers to take."""
        return self._fd

    def ask(self, name: str) -> None:
        """Ask for the IPv4 and the IPv6 addresses of a name, by all means that the machine has."""
        try:
            self._channel.getaddrinfo(name, None, type=socket.SOCK_STREAM, callback=partial(self._answered, name))
        except (pycares.AresError, ValueError):
            self._add(Answer(name, NO_ANSWER))

    def take(self) -> Sequence[Answer]:
        """Return the answers that have arrived since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        return [self._answers.popleft() for _ in range(len(self._answers))]

    def _answered(self, name: str, result: pycares.AddrInfoResult | None, error: int | None) -> None:
        """Callback of c-ares, on its thread or within `ask`."""
        if result is None or not result.nodes:
            self._add(Answer(name, NO_ADDRESS if result is not None or error in _WITHOUT_ADDRESS else NO_ANSWER))
            return
        addresses = dict.fromkeys(os.fsdecode(node.addr[0]) for node in result.nodes)
        found = Resolution(ResolutionStatus.FOUND, tuple(addresses))
        self._add(Answer(name, found, min(node.ttl for node in result.nodes)))

    def _add(self, answer: Answer) -> None:
        self._answers.append(answer)
        os.eventfd_write(self._fd, 1)
