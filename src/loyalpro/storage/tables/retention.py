"""What is too old goes: bounded pieces, oldest first. Each is one short transaction; it returns how many rows went.

Ids begin with their time, so old is a range of ids. On PostgreSQL whole weeks are dropped (`postgres/partitions.py`); what
stands in a default partition goes here, piece by piece, as everything does on SQLite.

The order is attempts, finished deliveries, events: an event stays until the last delivery of it has gone, so whatever is
still owed, or may be sent again by hand, finds its bytes.
"""

from typing import Final, Literal

from loyalpro.delivery.settlement import Notice
from loyalpro.jobs.periodic_job import BATCH_SIZE
from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.kernel.ids import IdFactory, floor
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.notices import NoticeTables
from loyalpro.storage.tables.settlements import advance

Aging = Literal["attempts", "deliveries", "events"]

# Which rows a piece has: its limit stands before their table is joined with anything.
_PIECES: dict[Aging, str] = {
    "attempts": "SELECT delivery_id FROM {table} WHERE delivery_id < ? ORDER BY delivery_id LIMIT ?",
    "deliveries": "SELECT id FROM {table} WHERE id < ? AND status <> 'pending' ORDER BY id LIMIT ?",
    "events": (
        "SELECT e.id FROM {table} e WHERE e.id < ? AND NOT EXISTS (SELECT 1 FROM deliveries d"
        " WHERE d.id >= 'dlv_' || substr(e.id, 5) AND d.id < 'dlv_' || substr(e.id, 5) || '~') ORDER BY e.id LIMIT ?"
    ),
}
_KEYS: dict[Aging, str] = {"attempts": "delivery_id", "deliveries": "id", "events": "id"}
_AMONG = {"sqlite": "IN ({piece})", "postgres": "= ANY (ARRAY({piece}))"}
"""PostgreSQL takes an array for short and uses the key; of a subquery it may think that it is as long as the table."""
_IN_PIECES: dict[Aging, str] = {
    "attempts": "attempts_default",
    "deliveries": "deliveries_done_default",
    "events": "events_default",
}

_GRACE_DAYS: Final = 7
"""What an endpoint that is not enabled was never sent is given up so long before its event would go: time to see it.

One that is enabled keeps its event for so much longer. So what is replayed on its event's last day is sent all the same, and
what waits behind a rate limit that is too low does not grow for ever.
"""

# What was canceled or had succeeded before its owner wanted it sent once more is that again.
_EXPIRE_UNSENT = """
UPDATE deliveries SET status = CASE WHEN fallback_status IN ('succeeded', 'canceled') THEN fallback_status ELSE 'exhausted' END,
    finished_at = ?, fallback_status = NULL, fallback_due_at = NULL
WHERE status = 'pending' AND id IN (
    SELECT d.id FROM deliveries d
    WHERE d.status = 'pending' AND d.id < ? AND (d.first_attempt_at IS NULL OR d.fallback_status IS NOT NULL)
      AND (d.id < ? OR EXISTS (SELECT 1 FROM endpoints e WHERE e.id = d.endpoint_id AND e.status <> 'enabled'))
      AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.delivery_id = d.id)
    ORDER BY d.id LIMIT ? {lock})
RETURNING account_id, endpoint_id, customer_id, sequence
"""
_EXPIRED_UNSENT = (
    "Deliveries that could not be sent for so long that their events are about to be removed are given up; they are"
    " shown as exhausted until then. To have what is newer, enable the endpoint; if it is enabled, raise its rate limit."
)

_HEALTH_OF_DELETED = """
DELETE FROM endpoint_health WHERE endpoint_id IN (
    SELECT h.endpoint_id FROM endpoint_health h JOIN endpoints e ON e.id = h.endpoint_id
    WHERE e.deleted_at IS NOT NULL LIMIT ?)
"""
_SECRETS_OF_DELETED = """
DELETE FROM endpoint_secrets WHERE (endpoint_id, version) IN (
    SELECT s.endpoint_id, s.version FROM endpoint_secrets s JOIN endpoints e ON e.id = s.endpoint_id
    WHERE e.deleted_at IS NOT NULL LIMIT ?)
"""
_EXPIRED_SECRETS = """
DELETE FROM endpoint_secrets WHERE (endpoint_id, version) IN (
    SELECT endpoint_id, version FROM endpoint_secrets WHERE expires_at <= ? LIMIT ?)
"""


class RetentionTables:
    """The end of what is old, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = "FOR UPDATE OF d SKIP LOCKED" if connection.dialect.is_postgres else ""

    def kept_since(self, now: UnixMs, age_ms: int) -> UnixMs:
        """What is older than this may be removed. On PostgreSQL a host whose clock is ahead of the server's ages nothing."""
        if self._connection.dialect.is_postgres:
            [(server_now,)] = self._connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            now = min(now, int(server_now))
        return now - age_ms

    def remove(self, kind: Aging, before: UnixMs) -> int:
        """Remove a piece of what is older than `before`. A delivery's attempts go together: a few more, then."""
        table: str = kind
        if self._connection.dialect.is_postgres:
            table = _IN_PIECES[kind]
            if kind == "events" and not self._hold_events(before):
                return 0
        limit = floor("evt" if kind == "events" else "dlv", before)
        among = _AMONG[self._connection.dialect.name].format(piece=_PIECES[kind].format(table=table))
        return self._connection.change(f"DELETE FROM {table} WHERE {_KEYS[kind]} {among}", (limit, BATCH_SIZE))

    def _hold_events(self, before: UnixMs) -> bool:
        """Keep everybody from looking for these events while they go: who replays one must not find it half gone."""
        [(oldest,)] = self._connection.execute("SELECT min(id) FROM events_default")
        if oldest is None or str(oldest) >= floor("evt", before):
            return False
        self._connection.execute("SET LOCAL lock_timeout = 100")
        self._connection.execute("LOCK TABLE ONLY events_default IN ACCESS EXCLUSIVE MODE")
        return True

    def expire_unsent(self, before: UnixMs, now: UnixMs, ids: IdFactory) -> int:
        """Exhaust deliveries that were never sent and whose events are removed when they are older than `before`.

        Each endpoint gets at most one notice about it a day.
        """
        grace_ms = _GRACE_DAYS * MS_PER_DAY
        limits = (floor("dlv", before + grace_ms), floor("dlv", before - grace_ms))
        rows = self._connection.execute(_EXPIRE_UNSENT.format(lock=self._lock), (now, *limits, BATCH_SIZE))
        advance(self._connection, [ordering for _, *ordering in rows], now)
        for account_id, endpoint_id in sorted({(account, endpoint) for account, endpoint, *_ in rows}):
            notice = Notice(account_id, endpoint_id, "deliveries_given_up", _EXPIRED_UNSENT)
            NoticeTables(self._connection).insert(notice, now, ids, unless_since=now - MS_PER_DAY)
        return len(rows)

    def remove_notices(self, before: UnixMs) -> int:
        """Remove a piece of the notices that are older than `before`."""
        return self._connection.change(
            "DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE id < ? ORDER BY id LIMIT ?)",
            (floor("ntc", before), BATCH_SIZE),
        )

    def remove_replays(self, before: UnixMs) -> int:
        """Remove a piece of the finished replays that are older than `before`."""
        return self._connection.change(
            "DELETE FROM replays WHERE id IN ("
            "SELECT id FROM replays WHERE id < ? AND status <> 'running' ORDER BY id LIMIT ?)",
            (floor("rpl", before), BATCH_SIZE),
        )

    def remove_leftovers(self, now: UnixMs) -> int:
        """Remove what deleted endpoints leave behind, and secrets that are not valid any more."""
        health = self._connection.change(_HEALTH_OF_DELETED, (BATCH_SIZE,))
        secrets = self._connection.change(_SECRETS_OF_DELETED, (BATCH_SIZE,))
        return health + secrets + self._connection.change(_EXPIRED_SECRETS, (now, BATCH_SIZE))
