"""The attempts table: what each attempt sent and received. Rows are appended and never changed, except by an erasure."""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

import msgspec

from loyalpro.delivery.settlement import Attempt
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import FLAG, Codec, RowMapper
from loyalpro.storage.sql import marks
from loyalpro.webhooks.entities import PastAttempt

_encoder: Final = msgspec.json.Encoder()
_HEADERS: Final = Codec(lambda pairs: _encoder.encode(pairs).decode(), json.loads)
"""Pairs as JSON. A faster encoder than that of `rows.JSON`, because the engine stores thousands of attempts a second."""

_ATTEMPTS: Final = RowMapper(
    PastAttempt,
    "attempts",
    codecs={"request_headers": _HEADERS, "response_headers": _HEADERS, "response_truncated": FLAG},
)
_PARTS: Final = {
    "outcome": "outcome.value",
    "response_status": "response.status",
    "response_headers": "response.headers",
    "response_excerpt": "response.body_excerpt",
    "response_truncated": "response.truncated",
    "dns_ms": "timings.dns_ms",
    "connect_ms": "timings.connect_ms",
    "tls_ms": "timings.tls_ms",
    "first_byte_ms": "timings.first_byte_ms",
    "total_ms": "timings.total_ms",
}
"""The fields of a `PastAttempt` that an `Attempt` has under another path."""
_PATHS: Final = [_PARTS.get(field.name, field.name) for field in fields(PastAttempt)]
_read: Final[Callable[[Attempt], tuple[object, ...]]] = attrgetter(*_PATHS)
"""The values of all fields of a `PastAttempt`, read from an `Attempt` that has a response and timings."""

_INSERT: Final = f"INSERT INTO attempts (delivery_id, {_ATTEMPTS.columns()}) VALUES ({marks(_ATTEMPTS.width + 1)})"
_SELECT: Final = f"SELECT {_ATTEMPTS.columns()} FROM attempts WHERE delivery_id = ? ORDER BY number"


def insert_attempts(connection: Connection, attempts: Sequence[tuple[str, Attempt]]) -> None:
    """Append attempts; each comes with the id of its delivery."""
    if attempts:
        rows = [(delivery_id, *_values(attempt)) for delivery_id, attempt in attempts]
        connection.execute_many(_INSERT, rows)


def list_attempts(connection: Connection, delivery_id: str) -> list[PastAttempt]:
    """All attempts of a delivery, oldest first."""
    return _ATTEMPTS.records(connection.execute(_SELECT, (delivery_id,)))


def _values(attempt: Attempt) -> tuple[object, ...]:
    """The values of the columns. Those of a response, or of timings, that the attempt does not have are None."""
    if attempt.response is None or attempt.timings is None:
        return _ATTEMPTS.encoded(tuple(_follow(attempt, path) for path in _PATHS))
    return _ATTEMPTS.encoded(_read(attempt))


def _follow(value: Any, path: str) -> Any:
    """The value at the end of a path of attributes; None if a value on the way is None."""
    for name in path.split("."):
        value = None if value is None else getattr(value, name)
    return value
