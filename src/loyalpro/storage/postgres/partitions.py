"""Weekly partitions of the append-only tables: created ahead of time, dropped whole when all of their rows are too old.

An id begins with its time, so a week is a range of ids. A delivery and its attempts are in the week of their event. The
default partitions hold the rows that fit no week: those from before the first weekly partition, and those of a wrong clock.

Creating or dropping a partition takes a short exclusive lock on its table. `DETACH ... CONCURRENTLY` would not, but
PostgreSQL refuses it beside a default partition. The transaction therefore waits for the lock for a tenth of a second at
most: a statement that queues behind it waits no longer than that, and the next maintenance run tries again. PostgreSQL
unlinks the files after it has released the locks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs, unix_ms
from loyalpro.kernel.errors import LockTaken
from loyalpro.kernel.ids import Prefix, floor
from loyalpro.storage.connection import Connection, DriverConnection, limit_lock_waits

WEEK_MS: Final = 7 * MS_PER_DAY
_FIRST_MONDAY_MS: Final = 4 * MS_PER_DAY
_WEEKS_AHEAD: Final = 3
_LOCK_TIMEOUT_MS: Final = 100
_MAX_SCANNED_BYTES: Final = 64 * 2**20
"""PostgreSQL scans the locked default partition before it creates a partition beside it."""
_ADVISORY_LOCK: Final = 7_011_963_126
_TABLES: Final[dict[str, Prefix]] = {"attempts": "dlv", "deliveries_done": "dlv", "events": "evt"}
"""The tables and the prefixes of their keys, in the order in which a week is dropped: an event after its deliveries."""


@dataclass(frozen=True, slots=True)
class Week:
    """The partition of one table for one week, from a Monday 00:00 UTC to the next."""

    table: str
    start: UnixMs

    @property
    def name(self) -> str:
        """The name of the partition, such as `events_20261123`."""
        return f"{self.table}_{datetime.fromtimestamp(self.start / MS_PER_S, UTC):%Y%m%d}"

    @property
    def bounds(self) -> tuple[str, str]:
        """The first id of the week, and the first id after it."""
        prefix = _TABLES[self.table]
        return floor(prefix, self.start), floor(prefix, self.start + WEEK_MS)


def week_start(instant: UnixMs) -> UnixMs:
    """The Monday 00:00 UTC at or before an instant."""
    return instant - (instant - _FIRST_MONDAY_MS) % WEEK_MS


def wanted(now: UnixMs) -> list[Week]:
    """The partitions that have to exist: last week, this week, and three weeks ahead, for each table."""
    this = week_start(now)
    return [Week(table, this + n * WEEK_MS) for n in range(-1, _WEEKS_AHEAD + 1) for table in _TABLES]


def prepare(connection: DriverConnection, now: UnixMs) -> None:
    """Create the missing partitions, each in a transaction of its own. One that stays locked is left to the periodic job."""
    more = True
    while more:
        connection.begin()
        try:
            more = maintain(connection, now, before=0)
            connection.commit()
        except LockTaken:
            more = False
        finally:
            connection.rollback()


def maintain(connection: Connection, now: UnixMs, before: UnixMs) -> bool:
    """Create one missing partition, or drop one that is older than `before`. False when there was nothing to do.

    `LockTaken` when its table stays locked for longer than the lock timeout.
    """
    if not _take_advisory_lock(connection):
        return False
    return any(create(connection, each) for each in wanted(now)) or any(
        drop(connection, each) for each in _old(connection, before)
    )


def create(connection: Connection, week: Week) -> bool:
    """Create a partition. False when it exists, or when the default partition has rows that belong in it."""
    low, high = week.bounds
    if _exists(connection, week.name) or _is_crowded(connection, week):
        return False
    limit_lock_waits(connection, _LOCK_TIMEOUT_MS)
    connection.execute(f"LOCK TABLE ONLY {week.table}_default IN ACCESS EXCLUSIVE MODE")
    if _is_crowded(connection, week):
        return False
    connection.execute(f"CREATE TABLE {week.name} PARTITION OF {week.table} FOR VALUES FROM ('{low}') TO ('{high}')")
    return True


def drop(connection: Connection, week: Week) -> bool:
    """Drop a partition. False when it has events whose deliveries still exist."""
    if week.table == "events" and _is_needed(connection, week):
        return False
    limit_lock_waits(connection, _LOCK_TIMEOUT_MS)
    if week.table == "events":
        # A transaction that replays an event reads it before it inserts a delivery.
        connection.execute("LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE")
        if _is_needed(connection, week):
            return False
    connection.execute(f"DROP TABLE {week.name}")
    return True


def _old(connection: Connection, before: UnixMs) -> Iterator[Week]:
    """Partitions of which every row is older than `before`, oldest first for each table."""
    for table in _TABLES:
        starts = sorted(_start(name, table) for name in _names(connection, table))
        yield from (Week(table, start) for start in starts if start + WEEK_MS <= before)


def _names(connection: Connection, table: str) -> list[str]:
    rows = connection.execute(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = ?::regclass",
        (table,),
    )
    return [name for (name,) in rows if name != f"{table}_default"]


def _start(name: str, table: str) -> UnixMs:
    return unix_ms(datetime.strptime(name.removeprefix(f"{table}_"), "%Y%m%d").replace(tzinfo=UTC))


def _is_crowded(connection: Connection, week: Week) -> bool:
    """Whether the default partition has rows of this week, or is too large to be scanned while it is locked."""
    default, key = f"{week.table}_default", "delivery_id" if week.table == "attempts" else "id"
    [(size,)] = connection.execute("SELECT pg_relation_size(?::regclass)", (default,))
    rows = connection.execute(f"SELECT 1 FROM {default} WHERE {key} >= ? AND {key} < ? LIMIT 1", week.bounds)
    return size > _MAX_SCANNED_BYTES or bool(rows)


def _is_needed(connection: Connection, week: Week) -> bool:
    low, high = Week("deliveries_done", week.start).bounds
    return bool(connection.execute("SELECT 1 FROM deliveries WHERE id >= ? AND id < ? LIMIT 1", (low, high)))


def _exists(connection: Connection, name: str) -> bool:
    [(found,)] = connection.execute("SELECT to_regclass(?) IS NOT NULL", (name,))
    return bool(found)


def _take_advisory_lock(connection: Connection) -> bool:
    """Whether no other process maintains partitions now; holds the lock until the transaction ends."""
    [(taken,)] = connection.execute("SELECT pg_try_advisory_xact_lock(?)", (_ADVISORY_LOCK,))
    return bool(taken)
