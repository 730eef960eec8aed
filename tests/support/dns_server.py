"""A DNS server on 127.0.0.1 that answers, hesitates, lies or is silent, name by name."""

import ipaddress
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

_A, _AAAA = 1, 28
_SERVFAIL, _NXDOMAIN = 2, 3
_SILENT = "silent."


@dataclass(frozen=True)
class Zone:
    """What the server says about a name: `addresses`, or an error code; nothing when `silent`.

    `after_s`: it does so that long after the first question, like a server that asks others and keeps what they say.
    """

    addresses: tuple[str, ...] = ()
    error: int = 0
    after_s: float = 0.0
    ttl_s: int = 60
    silent: bool = False


SILENT = Zone(silent=True)
UNKNOWN = Zone(error=_NXDOMAIN)
BROKEN = Zone(error=_SERVFAIL)


def at(*addresses: str, after_s: float = 0.0, ttl_s: int = 60) -> Zone:
    """A name with these addresses."""
    return Zone(addresses, after_s=after_s, ttl_s=ttl_s)


@dataclass
class DnsServer:
    """Every name that starts with `silent.` gets no answer, and every other one that `zones` does not have is unknown."""

    zones: dict[str, Zone] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._questions: Counter[str] = Counter()
        self._first_s: dict[tuple[str, int], float] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        self._socket.bind((self.host, self.port))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Its `address:port`."""
        return f"{self.host}:{self.port}"

    @property
    def questions(self) -> Mapping[str, int]:
        """How often each name was asked for; a look-up asks twice, for IPv4 and for IPv6 addresses."""
        with self._changed:
            return Counter(self._questions)

    def wait_for_names(self, count: int, timeout_s: float = 30) -> None:
        """Return once `count` different names were asked for."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._questions) >= count, timeout_s):
                raise AssertionError(f"only {len(self._questions)} of {count} names were asked for in {timeout_s} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", (self.host, self.port))
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(4_096)
            if not question:
                return
            name, kind, end = _parse(question)
            with self._changed:
                self._questions[name] += 1
                self._changed.notify_all()
            zone = self.zones.get(name, SILENT if name.startswith(_SILENT) else UNKNOWN)
            if zone.silent:
                continue
            answer = _answer(question, end, kind, zone)
            wait_s = self._first_s.setdefault((name, kind), time.monotonic()) + zone.after_s - time.monotonic()
            if wait_s > 0:
                timer = threading.Timer(wait_s, self._send, (answer, client))
                timer.daemon = True
                timer.start()
            else:
                self._send(answer, client)

    def _send(self, answer: bytes, client: tuple[str, int]) -> None:
        with suppress(OSError):  # the server may have ended
            self._socket.sendto(answer, client)


def _parse(question: bytes) -> tuple[str, int, int]:
    """The name and type of a question, and where it ends."""
    labels, at_byte = [], 12
    while length := question[at_byte]:
        labels.append(question[at_byte + 1 : at_byte + 1 + length].decode("ascii"))
        at_byte += 1 + length
    kind, _ = struct.unpack_from("!HH", question, at_byte + 1)
    return ".".join(labels).lower(), kind, at_byte + 5


def _answer(question: bytes, end: int, kind: int, zone: Zone) -> bytes:
    found = [address for each in zone.addresses if (address := ipaddress.ip_address(each)).version == _version(kind)]
    head = question[:2] + struct.pack("!HHHHH", 0x8180 | zone.error, 1, len(found), 0, 0)
    records = [
        struct.pack("!HHHIH", 0xC00C, kind, 1, zone.ttl_s, len(address.packed)) + address.packed for address in found
    ]
    return head + question[12:end] + b"".join(records)


def _version(kind: int) -> int:
    return {_A: 4, _AAAA: 6}.get(kind, 0)
