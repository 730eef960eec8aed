"""The messages between the server and its sender process, over a socket pair: frames of MessagePack."""

from collections.abc import Iterator
from dataclasses import field
from typing import Final, Generic, TypeVar

import msgspec

from loyalpro.delivery.attempt import OutgoingRequest, SendResult
from loyalpro.kernel.record import record
from loyalpro.transport.resolver import Resolution

M = TypeVar("M")
_LENGTH_BYTES: Final = 4


@record
class Question:
    """Which addresses a host name has. `account_id`: whose limit it counts against."""

    name: str
    account_id: str
    within_s: float


@record
class SendBatch:
    """From the server: requests to send, names to look up, pings, each with a number of its own, and numbers to cancel."""

    start: list[tuple[int, OutgoingRequest]]
    cancel: list[int]
    look_up: list[tuple[int, Question]] = field(default_factory=list)
    pings: list[int] = field(default_factory=list)


@record
class ResultBatch:
    """From the sender process: the results of requests and look-ups, each with its number, and the pings that it has read."""

    results: list[tuple[int, SendResult]]
    resolutions: list[tuple[int, Resolution]] = field(default_factory=list)
    pings: list[int] = field(default_factory=list)


_encoder = msgspec.msgpack.Encoder()


def frame(message: SendBatch | ResultBatch) -> bytes:
    """Encode a message and put its length before it: four bytes, big-endian."""
    content = _encoder.encode(message)
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


class Frames(Generic[M]):
    """Splits a stream of bytes into messages of one kind."""

    def __init__(self, kind: type[M]) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._unread = bytearray()

    def read(self, data: bytes) -> Iterator[M]:
        """Add `data` to the stream, and yield the messages that are complete now."""
        self._unread += data
        while len(self._unread) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._unread[:_LENGTH_BYTES], "big")
            if len(self._unread) < end:
                return
            content = bytes(memoryview(self._unread)[_LENGTH_BYTES:end])
            del self._unread[:end]
            yield self._decoder.decode(content)
