"""The attempts table: what each attempt sent and received. Rows are appended and never changed, except by an erasure.

The usual attempt is one request, and the columns of its row describe it. Only an attempt of several requests stores lists of
all requests and of their responses, so the usual one takes no more space.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

import msgspec

from loyalpro.delivery.settlement import Attempt, SentRequest
from loyalpro.kernel.record import record
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import FLAG, Codec, RowMapper
from loyalpro.storage.sql import flat, marks, padded_list
from loyalpro.webhooks.entities import LastAttempt, PastAttempt, PastRequest

_encoder: Final = msgspec.json.Encoder()


def _encode(value: object) -> str:
    return _encoder.encode(value).decode()


_JSON: Final = Codec(_encode, json.loads)
"""A faster encoder than that of `rows.JSON`, because the engine stores thousands of attempts a second."""


@record
class _AttemptRow:
    """A row: the deciding request, and of an attempt with several requests what was sent and received with each."""

    number: int
    deciding: PastRequest
    requests: Sequence[dict[str, object]] | None
    responses: Sequence[dict[str, object]] | None


_ATTEMPTS: Final = RowMapper(
    _AttemptRow,
    "attempts",
    parts={"deciding": PastRequest},
    codecs={
        "deciding.request_headers": _JSON,
        "deciding.response_headers": _JSON,
        "deciding.response_truncated": FLAG,
        "requests": _JSON,
        "responses": _JSON,
    },
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
"""The fields of a `PastRequest` that an `Attempt` and a `SentRequest` have under another path."""
_NAMES: Final = [field.name for field in fields(PastRequest)]
_PATHS: Final = [_PARTS.get(name, name) for name in _NAMES]
_read: Final[Callable[[Attempt | SentRequest], tuple[object, ...]]] = attrgetter(*_PATHS)
"""The values of all fields of a `PastRequest`, read from a value that has a response and timings."""
_ERASABLE: Final = ("response_headers", "response_excerpt", "response_truncated")
"""What an erasure removes."""

_INSERT: Final = f"INSERT INTO attempts (delivery_id, {_ATTEMPTS.columns()}) VALUES ({marks(_ATTEMPTS.width + 1)})"
_LAST: Final = RowMapper(LastAttempt, "attempts")
_SELECT: Final = f"SELECT {_ATTEMPTS.columns()} FROM attempts WHERE delivery_id = ? ORDER BY number"


def insert_attempts(connection: Connection, attempts: Sequence[tuple[str, Attempt]]) -> None:
    """Append attempts; each comes with the id of its delivery."""
    if attempts:
        rows = [(delivery_id, *_values(attempt)) for delivery_id, attempt in attempts]
        connection.execute_many(_INSERT, rows)


def list_attempts(connection: Connection, delivery_id: str) -> list[PastAttempt]:
    """All attempts of a delivery, oldest first."""
    return [_past(row) for row in _ATTEMPTS.records(connection.execute(_SELECT, (delivery_id,)))]


def last_attempts(connection: Connection, numbers: Mapping[str, int]) -> dict[str, LastAttempt]:
    """What these attempts came to. `numbers`: the number of the attempt by the id of its delivery."""
    if not numbers:
        return {}
    keys = padded_list(list(numbers.items()))
    found = f"SELECT a.delivery_id, {_LAST.columns('a')} FROM attempts a"
    sql = f"{found} WHERE (a.delivery_id, a.number) IN (VALUES {marks(len(keys), '(?, ?)')})"
    return {row[0]: _LAST.record(row[1:]) for row in connection.execute(sql, flat(keys))}


def _values(attempt: Attempt) -> tuple[object, ...]:
    """The values of the columns, in their order."""
    requests = attempt.requests if len(attempt.requests) > 1 else ()
    found = [dict(zip(_NAMES, _fields(each), strict=True)) for each in requests]
    responses = [{name: each.pop(name) for name in _ERASABLE} for each in found]
    answered = any(each.response for each in requests)
    return _ATTEMPTS.encoded((attempt.number, *_fields(attempt), found or None, responses if answered else None))


def _fields(request: Attempt | SentRequest) -> tuple[object, ...]:
    """The values of all fields of a `PastRequest`. Those of a response, or of timings, that it does not have are None."""
    if request.response is None or request.timings is None:
        return tuple(_follow(request, path) for path in _PATHS)
    return _read(request)


def _follow(value: Any, path: str) -> Any:
    """The value at the end of a path of attributes; None if a value on the way is None."""
    for name in path.split("."):
        value = None if value is None else getattr(value, name)
    return value


def _past(row: _AttemptRow) -> PastAttempt:
    if row.requests is not None:
        responses = row.responses or [dict.fromkeys(_ERASABLE) for _ in row.requests]
        found = [request | response for request, response in zip(row.requests, responses, strict=True)]
        return PastAttempt(row.number, row.deciding, msgspec.convert(found, list[PastRequest]))
    known = row.deciding.total_ms is not None  # an attempt that was interrupted has no timings
    return PastAttempt(row.number, row.deciding, [row.deciding] if known else [])
