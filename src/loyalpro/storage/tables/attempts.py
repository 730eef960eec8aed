"""The attempts table: what each attempt sent and received. Rows are appended and never changed."""

from collections.abc import Sequence

import msgspec

from loyalpro.delivery.settlement import Attempt
from loyalpro.storage.connection import Connection

_INSERT = (
    "INSERT INTO attempts (delivery_id, number, started_at, outcome, detail, request_headers, response_status,"
    " response_headers, response_excerpt, response_truncated, remote_ip, dns_ms, connect_ms, tls_ms, first_byte_ms,"
    " total_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def insert_attempts(connection: Connection, attempts: Sequence[tuple[str, Attempt]]) -> None:
    """Append attempts; each comes with the id of its delivery."""
    if attempts:
        connection.execute_many(_INSERT, [_values(delivery_id, each) for delivery_id, each in attempts])


_encoder = msgspec.json.Encoder()


def _json(headers: Sequence[tuple[str, str]]) -> str:
    return _encoder.encode(headers).decode()


def _values(delivery_id: str, attempt: Attempt) -> tuple[object, ...]:
    response, timings = attempt.response, attempt.timings
    return (
        delivery_id,
        attempt.number,
        attempt.started_at,
        attempt.outcome.value,
        attempt.detail,
        _json(attempt.request_headers),
        response.status if response else None,
        _json(response.headers) if response else None,
        response.body_excerpt if response else None,
        int(response.truncated) if response else None,
        attempt.remote_ip,
        timings.dns_ms if timings else None,
        timings.connect_ms if timings else None,
        timings.tls_ms if timings else None,
        timings.first_byte_ms if timings else None,
        timings.total_ms if timings else None,
    )
