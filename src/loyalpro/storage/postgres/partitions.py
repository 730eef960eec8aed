"""Weekly partitions of what is append-only: made ahead of time, dropped whole when all of it is too old.

An id begins with its time, so a week is a range of ids; a delivery and its attempts stand in the week of their event. What
fits nowhere else is taken by the default partitions: what came before there were weeks, or from a clock far off.

Making and dropping a partition takes a short exclusive lock on its table. `DETACH ... CONCURRENTLY` would not, but
PostgreSQL refuses it beside a default partition. So we wait for the lock a moment only: whoever queues behind us waits no
longer than that, and the next sweep tries again. Files are unlinked after the locks are gone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs, unix_ms
from loyalpro.kernel.errors import LockTaken
from loyalpro.kernel.ids import Prefix, floor
from loyalpro.storage.connection import Connection, DriverConnection

WEEK_MS: Final = 7 * MS_PER_DAY
_FIRST_MONDAY_MS: Final = 4 * MS_PER_DAY
_WEEKS_AHEAD: Final = 3
_LOCK_MS: Final = 100
_MOST_LOOKED_THROUGH: Final = 64 * 2**20
"""Bytes. PostgreSQL looks through a default partition, locked, before it makes another beside it."""
_ONE_AT_A_TIME: Final = 7_011_963_126
_TABLES: Final[dict[str, Prefix]] = {"attempts": "dlv", "deliveries_done": "dlv", "events": "evt"}
"""In the order in which a week is dropped: an event goes after the last delivery of it."""


@dataclass(frozen=True, slots=True)
class Week:
    """One table's partition of one week, from a Monday 00:00 UTC to the next."""

    table: str
    start: UnixMs

    @property
    def name(self) -> str:
        """`events_20261123`."""
        return f"{self.table}_{datetime.fromtimestamp(self.start / MS_PER_S, UTC):%Y%m%d}"

    @property
    def bounds(self) -> tuple[str, str]:
        """The first id in it, and the first one after it."""
        prefix = _TABLES[self.table]
        return floor(prefix, self.start), floor(prefix, self.start + WEEK_MS)


def week_start(instant: UnixMs) -> UnixMs:
    """The Monday 00:00 UTC at or before an instant."""
    return instant - (instant - _FIRST_MONDAY_MS) % WEEK_MS


def wanted(now: UnixMs) -> list[Week]:
    """Last week, this one, and some ahead."""
    this = week_start(now)
    return [Week(table, this + n * WEEK_MS) for n in range(-1, _WEEKS_AHEAD + 1) for table in _TABLES]


def prepare(connection: DriverConnection, now: UnixMs) -> None:
    """Make what is missing, outside of any transaction. What cannot be had at once is left to the sweeps."""
    more = True
    while more:
        connection.begin()
        try:
            more = tend(connection, now, before=0)
            connection.commit()
        except LockTaken:
            more = False
        finally:
            connection.rollback()


def tend(connection: Connection, now: UnixMs, before: UnixMs) -> bool:
    """Make one partition that is missing, or drop one that is older than `before`; False: there was nothing to do."""
    if not _alone(connection):
        return False
    return any(make(connection, each) for each in wanted(now)) or any(
        drop(connection, each) for each in _old(connection, before)
    )


def make(connection: Connection, week: Week) -> bool:
    """Make a partition, unless it is there, or what belongs into it stands in the default partition."""
    low, high = week.bounds
    if _exists(connection, week.name) or _is_crowded(connection, week):
        return False
    _be_quick(connection)
    connection.execute(f"LOCK TABLE ONLY {week.table}_default IN ACCESS EXCLUSIVE MODE")
    if _is_crowded(connection, week):
        return False
    connection.execute(f"CREATE TABLE {week.name} PARTITION OF {week.table} FOR VALUES FROM ('{low}') TO ('{high}')")
    return True


def drop(connection: Connection, week: Week) -> bool:
    """Drop a partition, unless it holds the events of deliveries that are still there."""
    if week.table == "events" and _needed(connection, week):
        return False
    _be_quick(connection)
    if week.table == "events":
        connection.execute("LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE")  # who replays one of them reads it first
        if _needed(connection, week):
            return False
    connection.execute(f"DROP TABLE {week.name}")
    return True


def _old(connection: Connection, before: UnixMs) -> Iterator[Week]:
    """Partitions with nothing in them that is not older than `before`, oldest first."""
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
    """Whether the default partition has rows of this week, or more than can be looked through while it is locked."""
    default, key = f"{week.table}_default", "delivery_id" if week.table == "attempts" else "id"
    [(size,)] = connection.execute("SELECT pg_relation_size(?::regclass)", (default,))
    rows = connection.execute(f"SELECT 1 FROM {default} WHERE {key} >= ? AND {key} < ? LIMIT 1", week.bounds)
    return size > _MOST_LOOKED_THROUGH or bool(rows)


def _needed(connection: Connection, week: Week) -> bool:
    low, high = Week("deliveries_done", week.start).bounds
    return bool(connection.execute("SELECT 1 FROM deliveries WHERE id >= ? AND id < ? LIMIT 1", (low, high)))


def _exists(connection: Connection, name: str) -> bool:
    [(found,)] = connection.execute("SELECT to_regclass(?) IS NOT NULL", (name,))
    return bool(found)


def _alone(connection: Connection) -> bool:
    """Whether no other process is at it; held until the transaction ends."""
    [(alone,)] = connection.execute("SELECT pg_try_advisory_xact_lock(?)", (_ONE_AT_A_TIME,))
    return bool(alone)


def _be_quick(connection: Connection) -> None:
    connection.execute(f"SET LOCAL lock_timeout = {_LOCK_MS}")
