"""The delivery_counters table: how many attempts ended in which way, by endpoint and span of time.

Attempts are added in the transaction that stores them, to the minute in which they are settled. A periodic job moves the
counts of older minutes to hours, and those of old hours to days: it deletes rows and adds their sum in one transaction, so
each attempt is in exactly one row. A reader sums all rows of a period, whatever their spans are.

A row belongs to one slot: workers have different slots, nearly always, and then none waits for the row of another one.

Satisfies `webhooks.ports.CounterStore`.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from loyalpro.delivery.counters import CountedAs, counted_as
from loyalpro.delivery.ports import WorkerId
from loyalpro.delivery.settlement import Attempt
from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.sql import marks
from loyalpro.webhooks.entities import Counts, HourOfEndpoint

MINUTE_MS: Final = 60 * MS_PER_S
HOUR_MS: Final = 60 * MINUTE_MS
MINUTES_KEPT_MS: Final = 2 * HOUR_MS
"""After them the counts are only known by the hour. A list of endpoints reads a day, so it reads few rows."""
HOURS_KEPT_MS: Final = 90 * MS_PER_DAY
DAYS_KEPT_MS: Final = 400 * MS_PER_DAY
_SLOTS: Final = 256
_MOVED: Final = 0
"""The slot of counts that were moved to a longer span."""

_KEY: Final = "endpoint_id, span_ms, start_at, slot, outcome, response_status, bucket"
_FROM_ARRAYS: Final = """
SELECT * FROM unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS TEXT[]),
    CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]))
"""


_ADD: Final = DialectSql(
    lambda dialect: (
        f"""
INSERT INTO delivery_counters ({_KEY}, attempts, last_at)
{_FROM_ARRAYS if dialect.is_postgres else f"VALUES ({marks(9)})"}
ON CONFLICT ({_KEY}) DO UPDATE SET attempts = delivery_counters.attempts + excluded.attempts,
    last_at = CASE WHEN delivery_counters.last_at > excluded.last_at THEN delivery_counters.last_at ELSE excluded.last_at END
"""
    )
)
"""Adds counts: one row of parameters for each on SQLite, and one row of arrays for all of them on PostgreSQL."""
_OLDEST: Final = (
    "SELECT endpoint_id, start_at FROM delivery_counters WHERE span_ms = ? AND start_at < ? ORDER BY start_at LIMIT 1"
)
_TAKE: Final = """
DELETE FROM delivery_counters WHERE endpoint_id = ? AND span_ms = ? AND start_at >= ? AND start_at < ?
RETURNING outcome, response_status, bucket, attempts, last_at
"""
_REMOVE: Final = "DELETE FROM delivery_counters WHERE endpoint_id = ? AND span_ms = ? AND start_at <= ?"

_SPANS: Final = (MINUTE_MS, HOUR_MS, MS_PER_DAY)
_OF_ONE: Final = """
SELECT start_at - start_at % ?, outcome, response_status, bucket, CAST(SUM(attempts) AS BIGINT), MAX(last_at)
FROM delivery_counters WHERE endpoint_id = ? AND span_ms IN (?, ?, ?) AND start_at >= ?
GROUP BY 1, outcome, response_status, bucket
"""
_BY_HOUR: Final = """
SELECT endpoint_id, start_at - start_at % ?, bucket, outcome = 'succeeded', CAST(SUM(attempts) AS BIGINT), MAX(last_at)
FROM delivery_counters WHERE endpoint_id IN ({marks}) AND span_ms IN (?, ?, ?) AND start_at >= ?
GROUP BY 1, 2, 3, 4
"""
_LAST_BEFORE: Final = """
SELECT e.id, (SELECT c.last_at FROM delivery_counters c WHERE c.endpoint_id = e.id AND c.span_ms = ?
    ORDER BY c.start_at DESC LIMIT 1)
FROM endpoints e WHERE e.id IN ({marks})
"""


def count_attempts(
    connection: Connection, worker: WorkerId, attempts: Iterable[tuple[str, Attempt]], now: UnixMs
) -> None:
    """Add attempts to the counts of the minute of `now`; each comes with the id of its endpoint."""
    counts = Counter(counted_as(endpoint_id, attempt) for endpoint_id, attempt in attempts)
    slot = zlib.crc32(worker.encode()) % _SLOTS
    _add_counts(connection, counts, dict.fromkeys(counts, now), MINUTE_MS, now - now % MINUTE_MS, slot)


def _add_counts(
    connection: Connection,
    counts: Mapping[CountedAs, int],
    last_at: Mapping[CountedAs, UnixMs],
    span_ms: int,
    start_at: UnixMs,
    slot: int,
) -> None:
    """Add counts. Their order keeps two transactions that share rows from waiting for each other in a cycle."""
    rows = [
        (
            key.endpoint_id,
            span_ms,
            start_at,
            slot,
            key.outcome,
            key.response_status,
            key.bucket,
            counts[key],
            last_at[key],
        )
        for key in sorted(counts)
    ]
    if rows:
        is_postgres = connection.dialect.is_postgres
        connection.execute_many(
            _ADD[connection.dialect], [[list(each) for each in zip(*rows, strict=True)]] if is_postgres else rows
        )


class CounterTables:
    """The counts of attempts, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- reading -----------------------------------------------------------------------------------------------------

    def of_endpoint(self, endpoint_id: str, since: UnixMs, step_ms: int) -> list[Counts]:
        """The counts of one endpoint since an instant, by spans of `step_ms` that begin at multiples of it."""
        rows = self._connection.execute(_OF_ONE, (step_ms, endpoint_id, *_SPANS, since))
        return [Counts(*row) for row in rows]

    def by_hour(self, endpoint_ids: Sequence[str], since: UnixMs) -> list[HourOfEndpoint]:
        """The counts of these endpoints since an instant, by the hour."""
        if not endpoint_ids:
            return []
        sql = _BY_HOUR.format(marks=marks(len(endpoint_ids)))
        rows = self._connection.execute(sql, (HOUR_MS, *endpoint_ids, *_SPANS, since))
        return [
            HourOfEndpoint(endpoint_id, start_at, bucket, bool(delivered), attempts, last_at)
            for endpoint_id, start_at, bucket, delivered, attempts, last_at in rows
        ]

    def last_before(self, endpoint_ids: Sequence[str]) -> dict[str, UnixMs]:
        """When the last attempt of each of these endpoints was settled, of those that are counted by the hour."""
        if not endpoint_ids:
            return {}
        rows = self._connection.execute(_LAST_BEFORE.format(marks=marks(len(endpoint_ids))), (HOUR_MS, *endpoint_ids))
        return {endpoint_id: last_at for endpoint_id, last_at in rows if last_at is not None}

    # -- the periodic job --------------------------------------------------------------------------------------------

    def lengthen_oldest(self, now: UnixMs) -> int:
        """Move the oldest counts of one endpoint that are too old for their span to the next longer one, or remove them.

        Return how many rows were taken; 0 when there is nothing to do.
        """
        for span_ms, longer_ms, kept_ms in (
            (MINUTE_MS, HOUR_MS, MINUTES_KEPT_MS),
            (HOUR_MS, MS_PER_DAY, HOURS_KEPT_MS),
        ):
            until = now - kept_ms
            for endpoint_id, start_at in self._connection.execute(_OLDEST, (span_ms, until - until % longer_ms)):
                return self._move(endpoint_id, span_ms, start_at - start_at % longer_ms, longer_ms)
        for endpoint_id, start_at in self._connection.execute(_OLDEST, (MS_PER_DAY, now - DAYS_KEPT_MS)):
            return self._connection.change(_REMOVE, (endpoint_id, MS_PER_DAY, start_at))
        return 0

    def _move(self, endpoint_id: str, span_ms: int, start_at: UnixMs, longer_ms: int) -> int:
        taken = self._connection.execute(_TAKE, (endpoint_id, span_ms, start_at, start_at + longer_ms))
        counts, last = Counter[CountedAs](), dict[CountedAs, UnixMs]()
        for outcome, status, bucket, attempts, last_at in taken:
            key = CountedAs(endpoint_id, outcome, status, bucket)
            counts[key] += attempts
            last[key] = max(last_at, last.get(key, 0))
        _add_counts(self._connection, counts, last, longer_ms, start_at, _MOVED)
        return max(1, len(taken))  # another process may have taken them, and there may be more
