"""Removes rows that are too old, in bounded batches, oldest first. `storage.maintenance_jobs` runs each batch.

Ids begin with their time, so the old rows are a range of ids. On PostgreSQL whole weekly partitions are dropped
(`postgres/partitions.py`), and this module removes the rows of the default partitions. On SQLite it removes all old rows.

The order is attempts, finished deliveries, events. An event stays until its last delivery is removed, so the body of each
delivery that is pending, or that may be sent again manually, exists.
"""

from typing import Final, Literal

from loyalpro.delivery.settlement import Notice
from loyalpro.jobs.periodic_job import BATCH_SIZE
from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.kernel.ids import IdFactory, floor
from loyalpro.storage.connection import Connection, limit_lock_waits, server_now
from loyalpro.storage.dialect import Dialect, DialectSql
from loyalpro.storage.tables.leases import UNLEASED
from loyalpro.storage.tables.notices import NoticeTables
from loyalpro.storage.tables.settlements import advance

Aging = Literal["attempts", "deliveries", "events"]

# The keys of a batch. The limit applies to the keys before they are joined with anything.
_KEYS_OF_BATCH: Final[dict[Aging, tuple[str, str]]] = {
    "attempts": (
        "delivery_id",
        "SELECT delivery_id FROM {table} WHERE delivery_id < ? ORDER BY delivery_id LIMIT ?",
    ),
    "deliveries": ("id", "SELECT id FROM {table} WHERE id < ? AND status <> 'pending' ORDER BY id LIMIT ?"),
    "events": (
        "id",
        (
            "SELECT e.id FROM {table} e WHERE e.id < ? AND NOT EXISTS (SELECT 1 FROM deliveries d"
            " WHERE d.id >= 'dlv_' || substr(e.id, 5) AND d.id < 'dlv_' || substr(e.id, 5) || '~') ORDER BY e.id LIMIT ?"
        ),
    ),
}
_DEFAULT_PARTITIONS: Final[dict[Aging, str]] = {
    "attempts": "attempts_default",
    "deliveries": "deliveries_done_default",
    "events": "events_default",
}
_EVENTS_LOCK_MS: Final = 100
_GRACE_DAYS: Final = 7
"""The deliveries of an endpoint that is not enabled are exhausted so many days before their events become too old: their
owner sees them as exhausted for that long.

The deliveries of an enabled endpoint are exhausted so many days after that. A delivery that was replayed on the last day of
its event is therefore still sent, and the backlog behind a rate limit that is too low does not grow without end.
"""


def _remove_batch(kind: Aging) -> DialectSql:
    """The statement that removes a batch of a table. On PostgreSQL only the default partition has rows to be removed singly."""
    key, keys = _KEYS_OF_BATCH[kind]

    def build(dialect: Dialect) -> str:
        table = _DEFAULT_PARTITIONS[kind] if dialect.is_postgres else kind
        return f"DELETE FROM {table} WHERE {key} {dialect.among(keys.format(table=table))}"

    return DialectSql(build)


_REMOVE: Final[dict[Aging, DialectSql]] = {
    "attempts": _remove_batch("attempts"),
    "deliveries": _remove_batch("deliveries"),
    "events": _remove_batch("events"),
}

# A delivery that had succeeded or was canceled before a manual attempt gets that status back.
_EXPIRE_UNSENT = DialectSql(
    lambda dialect: (
        f"""
UPDATE deliveries SET status = CASE WHEN fallback_status IN ('succeeded', 'canceled') THEN fallback_status ELSE 'exhausted' END,
    finished_at = ?, fallback_status = NULL, fallback_due_at = NULL
WHERE status = 'pending' AND id IN (
    SELECT d.id FROM deliveries d
    WHERE d.status = 'pending' AND d.id < ? AND (d.first_attempt_at IS NULL OR d.fallback_status IS NOT NULL)
      AND (d.id < ? OR EXISTS (SELECT 1 FROM endpoints e WHERE e.id = d.endpoint_id AND e.status <> 'enabled'))
      AND {UNLEASED}
    ORDER BY d.id LIMIT ? {dialect.for_update_of("d")} {dialect.skip_locked})
RETURNING account_id, endpoint_id, customer_id, sequence
"""
    )
)
_EXPIRED_UNSENT = (
    "Deliveries that could not be sent before their events are too old to be kept are shown as exhausted, and are removed"
    " with their events. To receive newer events, enable the endpoint; if it is enabled, raise its rate limit."
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
    """Removals of old rows, inside one database transaction. Each removes one batch, and returns how many rows it removed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def kept_since(self, now: UnixMs, age_ms: int) -> UnixMs:
        """The instant before which rows may be removed.

        The clock of a host that is ahead of the database server does not make rows older.
        """
        return min(now, server_now(self._connection, now)) - age_ms

    def remove(self, kind: Aging, before: UnixMs) -> int:
        """Remove a batch of the rows that are older than `before`.

        The attempts of one delivery are removed together, so it may be a few more than a batch.
        """
        if kind == "events" and not self._lock_events(before):
            return 0
        limit = floor("evt" if kind == "events" else "dlv", before)
        return self._connection.change(_REMOVE[kind][self._connection.dialect], (limit, BATCH_SIZE))

    def _lock_events(self, before: UnixMs) -> bool:
        """Lock the events of the default partition, if there are old ones; return whether there may be any to remove.

        A transaction that replays an event reads it and then inserts a delivery. The lock keeps the removal from running
        between the two. On SQLite no other transaction runs at the same time. Raises LockTaken when the lock stays taken.
        """
        if not self._connection.dialect.is_postgres:  # only PostgreSQL runs writing transactions at the same time
            return True
        [(oldest,)] = self._connection.execute("SELECT min(id) FROM events_default")
        if oldest is None or str(oldest) >= floor("evt", before):
            return False
        limit_lock_waits(self._connection, _EVENTS_LOCK_MS)
        self._connection.execute("LOCK TABLE ONLY events_default IN ACCESS EXCLUSIVE MODE")
        return True

    def expire_unsent(self, before: UnixMs, now: UnixMs, ids: IdFactory) -> int:
        """Exhaust deliveries that were never sent and whose events are removed when they are older than `before`.

        Each endpoint gets at most one notice about it a day.
        """
        grace_ms = _GRACE_DAYS * MS_PER_DAY
        limits = (floor("dlv", before + grace_ms), floor("dlv", before - grace_ms))
        rows = self._connection.execute(_EXPIRE_UNSENT[self._connection.dialect], (now, *limits, BATCH_SIZE))
        advance(self._connection, [ordering for _, *ordering in rows], now)
        for account_id, endpoint_id in sorted({(account, endpoint) for account, endpoint, *_ in rows}):
            notice = Notice(account_id, endpoint_id, "deliveries_given_up", _EXPIRED_UNSENT)
            NoticeTables(self._connection).insert(notice, now, ids, unless_since=now - MS_PER_DAY)
        return len(rows)

    def remove_notices(self, before: UnixMs) -> int:
        """Remove a batch of the notices that are older than `before`."""
        return self._connection.change(
            "DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE id < ? ORDER BY id LIMIT ?)",
            (floor("ntc", before), BATCH_SIZE),
        )

    def remove_replays(self, before: UnixMs) -> int:
        """Remove a batch of the finished replays that are older than `before`."""
        return self._connection.change(
            "DELETE FROM replays WHERE id IN ("
            "SELECT id FROM replays WHERE id < ? AND status <> 'running' ORDER BY id LIMIT ?)",
            (floor("rpl", before), BATCH_SIZE),
        )

    def remove_leftovers(self, now: UnixMs) -> int:
        """Remove the health and the secrets of deleted endpoints, and secrets that have expired: a batch of each."""
        health = self._connection.change(_HEALTH_OF_DELETED, (BATCH_SIZE,))
        secrets = self._connection.change(_SECRETS_OF_DELETED, (BATCH_SIZE,))
        return health + secrets + self._connection.change(_EXPIRED_SECRETS, (now, BATCH_SIZE))
