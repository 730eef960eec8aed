"""What became of deliveries: every write names the state and the lease that it leaves."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from loyalpro.delivery.ports import Settled, Settlement, WorkerId
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.sql import marks, padded_chunks
from loyalpro.storage.tables.attempts import insert_attempts
from loyalpro.storage.tables.health import HealthTables

# The ids are named once more, by themselves: so there is but one way for the planners to find the rows, by their keys.
# And what is looked through for each of them is materialized: PostgreSQL reads bare VALUES at many times the price.
_GIVE_UP = """
WITH v AS MATERIALIZED (VALUES {rows})
DELETE FROM leases WHERE worker = ? AND delivery_id IN ({ids}) AND (delivery_id, attempt) IN (SELECT * FROM v)
RETURNING delivery_id, attempt
"""

# The cast keeps SQLite from the idea to look through all deliveries, with an index over these values.
_SETTLE = """
WITH v (column1, column2, column3, column4, column5, column6, column7, column8) AS MATERIALIZED (VALUES {rows})
UPDATE deliveries SET status = v.column2, due_at = COALESCE(v.column3, due_at), finished_at = v.column4,
    outcome = COALESCE(v.column5, outcome), attempts = v.column6, first_attempt_at = v.column7,
    uncounted_attempts = uncounted_attempts + v.column8, fallback_status = NULL, fallback_due_at = NULL
FROM v WHERE deliveries.id = CAST(v.column1 AS TEXT) AND deliveries.status = 'pending' {among}
RETURNING deliveries.id, deliveries.status, endpoint_id, customer_id, sequence
"""
_ROW = (
    "(CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS BIGINT),"
    " CAST(? AS BIGINT), CAST(? AS BIGINT))"
)

# The head of a customer's queue is due: nothing else of the customer's is before it.
#
# On PostgreSQL two transactions may finish deliveries of one queue at once, and neither sees that the other's has finished.
# So a head that comes after what we finished is written even if it is due already: this waits for whoever is finishing it,
# and runs our transaction again; who wants to finish it later waits for us, and then sees what we did. A head that comes
# before is left alone: who finishes that one does the same with ours. Within a queue everybody waits for later ones only,
# so nobody waits in a circle.
_ADVANCE = """
UPDATE deliveries SET due_at = COALESCE(due_at, ?)
WHERE status = 'pending' AND id = (
    SELECT id FROM deliveries WHERE endpoint_id = ? AND customer_id = ? AND status = 'pending' ORDER BY sequence LIMIT 1)
AND (due_at IS NULL OR sequence > ?)
"""


def advance(connection: Connection, finished: Iterable[Sequence[Any]], now: UnixMs) -> None:
    """Let the next one go in each queue of which one has finished: endpoint, customer if in order, and sequence.

    Harmless to repeat.
    """
    first: dict[tuple[str, str], int] = {}
    for endpoint_id, customer_id, sequence in finished:
        if customer_id is not None:
            queue = (endpoint_id, customer_id)
            first[queue] = min(sequence, first.get(queue, sequence))
    connection.execute_many(_ADVANCE, [(now, *queue, sequence) for queue, sequence in sorted(first.items())])


class SettlementTables:
    """The writes of the settler, inside one transaction."""

    def __init__(self, connection: Connection, ids: IdFactory) -> None:
        self._connection = connection
        self._health = HealthTables(connection, ids)

    def settle(
        self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> Settled:
        """Give up the leases that are still the worker's, and write what became of their deliveries."""
        given_up = self._give_up(worker, settlements)
        kept = sorted((each for each in settlements if _lease_of(each) in given_up), key=_lease_of)
        if not kept:
            return Settled(frozenset(), {}, ())
        moved = self._move(kept, now)
        ids = {id_ for id_, *_ in moved}
        self._count([each for each in kept if each.claimed.delivery_id not in ids])
        insert_attempts(self._connection, [(each.claimed.delivery_id, each.attempt) for each in kept if each.attempt])
        advance(self._connection, _finished(moved), now)
        self._promote(
            {(each.claimed.target.endpoint_id, each.promoted) for each in kept if each.promoted is not None}, now
        )
        health, notices = self._health.observe(kept, now, longest_probe_s=longest_probe_s)
        return Settled(frozenset(each.claimed.delivery_id for each in kept), health, notices)

    def _give_up(self, worker: WorkerId, settlements: Sequence[Settlement]) -> set[tuple[str, int]]:
        """The attempt is part of the fence: a worker may have leased the same delivery again meanwhile."""
        given_up: set[tuple[str, int]] = set()
        for leases in padded_chunks(sorted(_lease_of(each) for each in settlements)):
            sql = _GIVE_UP.format(ids=marks(len(leases)), rows=marks(len(leases), "(?, ?)"))
            ids = [delivery_id for delivery_id, _ in leases]
            given_up |= set(self._connection.execute(sql, (*itertools.chain.from_iterable(leases), worker, *ids)))
        return given_up

    def _move(self, settlements: Sequence[Settlement], now: UnixMs) -> set[Row]:
        moved: set[Row] = set()
        for piece in padded_chunks([_moved_values(each, now) for each in settlements]):
            params = list(itertools.chain.from_iterable(piece))
            among = ""
            if self._connection.dialect.is_postgres:
                among = f"AND id IN ({marks(len(piece))})"
                params += [values[0] for values in piece]
            sql = _SETTLE.format(rows=marks(len(piece), _ROW), among=among)
            moved |= set(self._connection.execute(sql, params))
        return moved

    def _count(self, settlements: Sequence[Settlement]) -> None:
        """Its owner canceled it while it was under way: it stays what it is now, and its attempt is written down."""
        for each in settlements:
            if each.attempt is not None:
                self._connection.execute(
                    "UPDATE deliveries SET attempts = ?, first_attempt_at = COALESCE(first_attempt_at, ?)"
                    " WHERE id = ? AND status IN ('canceled', 'succeeded', 'exhausted')",
                    (each.attempt.number, each.claimed.first_attempt_at, each.claimed.delivery_id),
                )

    def _promote(self, secrets: Iterable[tuple[str, int]], now: UnixMs) -> None:
        """The receiver has shown that it knows this secret of the endpoint: from now on that one signs alone."""
        for endpoint_id, version in sorted(secrets):
            self._connection.execute(
                "UPDATE endpoint_secrets SET promoted_at = ?"
                " WHERE endpoint_id = ? AND version = ? AND promoted_at IS NULL",
                (now, endpoint_id, version),
            )


def _moved_values(settlement: Settlement, now: UnixMs) -> tuple[object, ...]:
    claimed, attempt = settlement.claimed, settlement.attempt
    return (
        claimed.delivery_id,
        settlement.status.value,
        settlement.due_at,
        None if settlement.status is DeliveryStatus.PENDING else now,
        attempt.outcome.value if attempt else None,
        claimed.attempt_number - (0 if attempt else 1),
        claimed.first_attempt_at,
        0 if settlement.scheduled else 1,
    )


def _lease_of(settlement: Settlement) -> tuple[str, int]:
    return settlement.claimed.delivery_id, settlement.claimed.attempt_number


def _finished(moved: Iterable[Row]) -> list[Sequence[Any]]:
    return [place for _, status, *place in moved if status != DeliveryStatus.PENDING]
