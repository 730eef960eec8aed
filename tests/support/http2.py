"""The frames of an HTTP/2 receiver for tests, written by hand so that a test can send wrong ones."""

import socket
from collections.abc import Callable
from typing import Final

from support.receivers import Hit, Script

DATA: Final = 0x0
HEADERS: Final = 0x1
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
STATUS_200: Final = b"\x88"
STATUS_500: Final = b"\x8e"
"""HPACK's index of `:status: 200` and `:status: 500`, https://www.rfc-editor.org/rfc/rfc7541#appendix-A"""
_PREFACE_BYTES: Final = 24
_HEAD_BYTES: Final = 9

Speak = Callable[[socket.socket, int], None]
"""What a receiver does with one request: it gets the connection and the number of the stream."""


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One frame, https://www.rfc-editor.org/rfc/rfc9113#section-4.1"""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def text_header(name: bytes, value: bytes) -> bytes:
    """One header in HPACK without an index and without Huffman coding; `name` and `value` are shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def http2(speak: Speak) -> Script:
    """A script, for a `RawServer` that does not read, which calls `speak` for each request that is complete."""

    def script(connection: socket.socket, _: Hit | None) -> None:
        connection.sendall(frame(SETTINGS))
        _read(connection, _PREFACE_BYTES)
        while True:
            head = _read(connection, _HEAD_BYTES)
            _read(connection, int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK))
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                speak(connection, stream)

    return script


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise OSError("The connection ended.")
        data += more
    return data
