"""Writes the outcomes of attempts. Each write names the state and the lease that it expects, and has no effect otherwise.

The part of `delivery.ports.DeliveryStore` that concerns settlements, as `delivery_store.py` calls it.
"""

import itertools
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from loyalpro.delivery.ports import WorkerId
from loyalpro.delivery.settlement import Attempt, Settled, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.dialect import Dialect
from loyalpro.storage.sql import CHUNK_LENGTHS, marks, padded_chunks
from loyalpro.storage.tables.attempts import insert_attempts
from loyalpro.storage.tables.counters import count_attempts
from loyalpro.storage.tables.health import HealthTables
from loyalpro.storage.tables.secrets import promote


@lru_cache(CHUNK_LENGTHS)
def _release_leases(count: int) -> str:
    """The statement that releases `count` leases.

    The list of ids repeats the first column of `v`, so that the planners find the rows by their keys and in no other way. `v`
    is materialized, because PostgreSQL searches it for each row, and takes many times as long to search bare VALUES.
    """
    return f"""
WITH v AS MATERIALIZED (VALUES {marks(count, "(?, ?)")})
DELETE FROM leases WHERE worker = ? AND delivery_id IN ({marks(count)}) AND (delivery_id, attempt) IN (SELECT * FROM v)
RETURNING delivery_id, attempt
"""


_ROW: Final = (
    "(CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS BIGINT),"
    " CAST(? AS BIGINT), CAST(? AS BIGINT))"
)


@lru_cache(2 * CHUNK_LENGTHS)
def _settle(dialect: Dialect, count: int) -> str:
    """The statement that moves `count` deliveries; its parameters are those of `_settle_params`.

    On PostgreSQL a list of ids repeats the first column of `v`, so that the planner finds the rows by their keys. SQLite does
    so without the list, thanks to the cast: otherwise it would scan all deliveries, and search an index over the values.
    """
    among = f"AND deliveries.id IN ({marks(count)})" if dialect.is_postgres else ""
    return f"""
WITH v (id, status, due_at, finished_at, outcome, attempts, first_attempt_at, uncounted) AS MATERIALIZED
    (VALUES {marks(count, _ROW)})
UPDATE deliveries SET status = v.status, due_at = COALESCE(v.due_at, deliveries.due_at), finished_at = v.finished_at,
    outcome = COALESCE(v.outcome, deliveries.outcome), attempts = v.attempts, first_attempt_at = v.first_attempt_at,
    uncounted_attempts = uncounted_attempts + v.uncounted, fallback_status = NULL, fallback_due_at = NULL
FROM v WHERE deliveries.id = CAST(v.id AS TEXT) AND deliveries.status = 'pending' {among}
RETURNING deliveries.id, deliveries.status, endpoint_id, customer_id, sequence
"""


def _settle_params(dialect: Dialect, settlements: Sequence[Settlement], now: UnixMs) -> list[object]:
    """The parameters of `_settle`: for each settlement the columns of `v`, then the ids if they are listed."""
    params: list[object] = []
    for each in settlements:
        claimed, attempt = each.claimed, each.attempt
        params += (
            claimed.delivery_id,
            each.status.value,
            each.due_at,
            None if each.status is DeliveryStatus.PENDING else now,
            attempt.outcome.value if attempt else None,
            claimed.attempt_number - (0 if attempt else 1),
            claimed.first_attempt_at,
            0 if each.scheduled else 1,
        )
    if dialect.is_postgres:
        params += [each.claimed.delivery_id for each in settlements]
    return params


_COUNT_ATTEMPT: Final = """
UPDATE deliveries SET attempts = ?, first_attempt_at = COALESCE(first_attempt_at, ?)
WHERE id = ? AND status IN ('canceled', 'succeeded', 'exhausted')
"""

# The first pending delivery of a customer is due: no earlier delivery of the customer has to be sent before it.
#
# On PostgreSQL two transactions may finish deliveries of one customer at once, and neither sees the change of the other. So
# the first pending delivery is written even if it is due already, when it comes after the one that this transaction
# finished. If another transaction is finishing it, this one waits for its row lock and is run again. A transaction that
# finishes it later waits for this one, and then sees its change. A first delivery that comes before the finished one is not
# written: the transaction that finishes it will do the same with the later one. Transactions wait for later deliveries of a
# customer only, so there is no cycle of waits.
_ADVANCE = """
UPDATE deliveries SET due_at = COALESCE(due_at, ?)
WHERE status = 'pending' AND id = (
    SELECT id FROM deliveries WHERE endpoint_id = ? AND customer_id = ? AND status = 'pending' ORDER BY sequence LIMIT 1)
AND (due_at IS NULL OR sequence > ?)
"""


def advance(connection: Connection, finished: Iterable[Sequence[Any]], now: UnixMs) -> None:
    """Make the next delivery of each customer due after one has finished. Idempotent.

    `finished`: of each finished delivery its endpoint id, its customer id (None if the endpoint is not ordered) and its
    sequence.
    """
    first: dict[tuple[str, str], int] = {}
    for endpoint_id, customer_id, sequence in finished:
        if customer_id is not None:
            queue = (endpoint_id, customer_id)
            first[queue] = min(sequence, first.get(queue, sequence))
    connection.execute_many(_ADVANCE, [(now, *queue, sequence) for queue, sequence in sorted(first.items())])


class SettlementTables:
    """The writes of settlements, inside one database transaction."""

    def __init__(self, connection: Connection, ids: IdFactory) -> None:
        self._connection = connection
        self._health = HealthTables(connection, ids)

    def settle(
        self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> Settled:
        """Release the leases that the worker still holds, and write the outcomes of their deliveries.

        `longest_probe_s`: the longest wait between two probes of an endpoint.
        """
        released = self._release_leases(worker, settlements)
        kept = sorted((each for each in settlements if _lease_of(each) in released), key=_lease_of)
        if not kept:
            return Settled(frozenset(), {}, ())
        moved = self._move(kept, now)
        ids = {id_ for id_, *_ in moved}
        self._count_attempts([each for each in kept if each.claimed.delivery_id not in ids])
        insert_attempts(self._connection, [(each.claimed.delivery_id, each.attempt) for each in kept if each.attempt])
        advance(self._connection, _finished(moved), now)
        self._promote(
            {(each.claimed.target.endpoint_id, each.promoted) for each in kept if each.promoted is not None}, now
        )
        health, notices = self._health.observe(kept, now, longest_probe_s=longest_probe_s)
        count_attempts(self._connection, worker, _counted(kept), now)
        return Settled(frozenset(each.claimed.delivery_id for each in kept), health, notices)

    def _release_leases(self, worker: WorkerId, settlements: Sequence[Settlement]) -> set[Row]:
        """Release the leases; return the delivery and the attempt of those that the worker still held.

        The attempt is part of the fence, because the worker may have leased the same delivery again meanwhile.
        """
        released: set[Row] = set()
        for leases in padded_chunks(sorted(_lease_of(each) for each in settlements)):
            ids = [delivery_id for delivery_id, _ in leases]
            params = (*itertools.chain.from_iterable(leases), worker, *ids)
            rows = self._connection.execute(_release_leases(len(leases)), params)
            released.update(rows)
        return released

    def _move(self, settlements: Sequence[Settlement], now: UnixMs) -> set[Row]:
        """Move the deliveries that are still pending to their next states; return their rows of `_settle`."""
        dialect, moved = self._connection.dialect, set[Row]()
        for chunk in padded_chunks(settlements):
            sql, params = _settle(dialect, len(chunk)), _settle_params(dialect, chunk, now)
            moved |= set(self._connection.execute(sql, params))
        return moved

    def _count_attempts(self, settlements: Sequence[Settlement]) -> None:
        """Count the attempts of deliveries that their owner canceled during the request; their states stay."""
        for each in settlements:
            if each.attempt is not None:
                params = (each.attempt.number, each.claimed.first_attempt_at, each.claimed.delivery_id)
                self._connection.execute(_COUNT_ATTEMPT, params)

    def _promote(self, secrets: Iterable[tuple[str, int]], now: UnixMs) -> None:
        """Promote secrets that their receivers have accepted. `secrets`: endpoint id and version."""
        for endpoint_id, version in sorted(secrets):
            promote(self._connection, endpoint_id, version, now)


def _lease_of(settlement: Settlement) -> tuple[str, int]:
    return settlement.claimed.delivery_id, settlement.claimed.attempt_number


def _finished(moved: Iterable[Row]) -> list[Sequence[Any]]:
    return [ordering for _, status, *ordering in moved if status != DeliveryStatus.PENDING]


def _counted(settlements: Iterable[Settlement]) -> list[tuple[str, Attempt]]:
    """The attempts that say something of their endpoints, each with the id of its endpoint: those that are signed rightly."""
    return [
        (each.claimed.target.endpoint_id, each.attempt)
        for each in settlements
        if each.attempt is not None and not each.claimed.forged
    ]
