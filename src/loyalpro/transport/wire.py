"""What a server and its sending process tell each other over a socket pair: frames of MessagePack."""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import msgspec

from loyalpro.delivery.attempt import OutgoingRequest, SendResult
from loyalpro.kernel.record import record

M = TypeVar("M")
_LENGTH_BYTES: Final = 4


@record
class Orders:
    """Requests to send, each with a number of its own, and the numbers of those to break off."""

    start: list[tuple[int, OutgoingRequest]]
    cancel: list[int]


@record
class Reports:
    """What became of requests, by their numbers."""

    ended: list[tuple[int, SendResult]]


_encoder = msgspec.msgpack.Encoder()


def frame(message: Orders | Reports) -> bytes:
    """The message and, before it, its length in bytes: four of them, big-endian."""
    content = _encoder.encode(message)
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


class Frames(Generic[M]):
    """Cuts what is read into messages."""

    def __init__(self, kind: type[M]) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._unread = bytearray()

    def read(self, data: bytes) -> Iterator[M]:
        """The messages that are complete now."""
        self._unread += data
        while len(self._unread) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._unread[:_LENGTH_BYTES], "big")
            if len(self._unread) < end:
                return
            content = bytes(memoryview(self._unread)[_LENGTH_BYTES:end])
            del self._unread[:end]
            yield self._decoder.decode(content)
