"""The replays table, and the range of events that each replay reads in pages. Satisfies `webhooks.ports.ReplayStore`."""

from dataclasses import dataclass, replace
from typing import Protocol

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs
from loyalpro.kernel.ids import floor
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import WORDS, RowMapper
from loyalpro.storage.sql import where
from loyalpro.storage.tables.events import PAST_EVENTS
from loyalpro.webhooks.entities import Replay, ReplayPage

_REPLAYS = RowMapper(Replay, "replays", codecs={"types": WORDS, "statuses": WORDS})
_MOST_COUNTED = 5_000
_ID_BEFORE_EVENT_MS = 60 * MS_PER_S
"""The id of an event is made in the transaction that stores the event, so it is hardly older."""

_SELECT = f"SELECT {_REPLAYS.columns()} FROM replays"
_LOCK_RUNNING = DialectSql(
    lambda dialect: f"{_SELECT} WHERE id = ? AND status = 'running' {dialect.for_update} {dialect.skip_locked}"
)


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a replay in the order of events, and the end of its range.

    On SQLite `last` is the last position that existed when the replay was stored, and `transaction_id` is 0. On PostgreSQL
    `last` is the transaction that stored the replay. The replay is done when each transaction that was open at that time has
    ended.
    """

    transaction_id: int
    position: int
    last: int

    def __str__(self) -> str:
        return f"{self.transaction_id}/{self.position}/{self.last}"

    @classmethod
    def parse(cls, text: str) -> "Place":
        """The opposite of `str`."""
        return cls(*map(int, text.split("/")))


class ReplayTables:
    """Replays, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # Two algorithms: positions appear in order on SQLite only.
        order = _OrderOfTransactions if connection.dialect.is_postgres else _OrderOfPositions
        self._order: _Order = order(connection)

    def insert(self, replay: Replay) -> None:
        """Store a new replay, at the beginning of its range."""
        placed = replace(replay, cursor=str(self._order.beginning(replay)))
        self._connection.execute(_REPLAYS.insert, _REPLAYS.values(placed))

    def get(self, account_id: str, endpoint_id: str, replay_id: str) -> Replay | None:
        """One replay."""
        rows = self._connection.execute(
            f"{_SELECT} WHERE account_id = ? AND endpoint_id = ? AND id = ?", (account_id, endpoint_id, replay_id)
        )
        return _REPLAYS.record(rows[0]) if rows else None

    def list_before(self, endpoint_id: str, before_id: str | None, limit: int) -> list[Replay]:
        """An endpoint's replays, newest first."""
        clause, params = where(("endpoint_id = ?", endpoint_id), ("id < ?", before_id))
        rows = self._connection.execute(f"{_SELECT} {clause} ORDER BY id DESC LIMIT ?", (*params, limit))
        return _REPLAYS.records(rows)

    def running(self) -> list[str]:
        """The ids of the replays that are running, oldest first."""
        return [
            id_ for (id_,) in self._connection.execute("SELECT id FROM replays WHERE status = 'running' ORDER BY id")
        ]

    def estimated_total(self, replay: Replay) -> int:
        """An estimate of how many events the replay will have examined when it ends; exact when fewer than 5,000 are left."""
        if replay.status != "running":
            return replay.examined
        return replay.examined + self._estimated(replay, Place.parse(replay.cursor))

    def estimated_range(self, replay: Replay) -> int:
        """An estimate of how many events are in the range of a replay that is not stored; exact when fewer than 5,000 are."""
        return self._estimated(replay, self._order.whole(replay))

    def _estimated(self, replay: Replay, place: Place) -> int:
        """How many events are behind a place; from 5,000 on, as many as there would be if all were as dense as the first."""
        sql, params = self._range(replay, place, "created_at", _MOST_COUNTED)
        [(count, first, last)] = self._connection.execute(
            f"SELECT COUNT(*), MIN(created_at), MAX(created_at) FROM ({sql}) AS ahead", params
        )
        if count < _MOST_COUNTED:
            return int(count)
        return int(count * max(1.0, (replay.until - first) / max(1, last - first)))

    # -- one page ----------------------------------------------------------------------------------------------------

    def lock_running(self, replay_id: str) -> Replay | None:
        """A running replay, locked; None when there is none, or when another transaction has locked it."""
        rows = self._connection.execute(_LOCK_RUNNING[self._connection.dialect], (replay_id,))
        return _REPLAYS.record(rows[0]) if rows else None

    def next_events(self, replay: Replay, limit: int) -> ReplayPage:
        """The next events of the range, in the order of their commits."""
        place = Place.parse(replay.cursor)
        complete = self._order.is_complete(place)  # read first: transactions that begin later are not in the range
        sql, params = self._range(replay, place, f"{PAST_EVENTS.columns()}, {self._order.place_columns}", limit)
        rows = self._connection.execute(sql, params)
        for *_, transaction_id, position in rows[-1:]:
            place = Place(int(transaction_id), position, place.last)
        return ReplayPage(PAST_EVENTS.records(rows), str(place), is_last=len(rows) < limit and complete)

    def advance(self, replay: Replay, page: ReplayPage, replayed: int) -> None:
        """Move the replay to the end of a page. `replayed`: how many of its events have a delivery that was made due."""
        self._connection.execute(
            "UPDATE replays SET cursor = ?, examined = examined + ?, replayed = replayed + ? WHERE id = ?",
            (page.cursor, len(page.events), replayed, replay.id),
        )

    def finish(self, replay_id: str, status: str, now: UnixMs) -> None:
        """End a replay that is running."""
        self._connection.execute(
            "UPDATE replays SET status = ?, finished_at = ? WHERE id = ? AND status = 'running'",
            (status, now, replay_id),
        )

    def _range(self, replay: Replay, place: Place, columns: str, limit: int) -> tuple[str, tuple[object, ...]]:
        """A statement for the next events of a replay's range, and its parameters."""
        ahead, params = self._order.ahead(replay, place)
        sql = (
            f"SELECT {columns} FROM events WHERE account_id = ? AND test = 0 AND created_at BETWEEN ? AND ? AND {ahead}"
            f" ORDER BY {self._connection.dialect.event_order} LIMIT ?"
        )
        return sql, (replay.account_id, replay.since, replay.until, *params, limit)


class _Order(Protocol):
    """How the range of a replay is found in the order of events."""

    place_columns: str
    """The columns of `events` that a `Place` has: a transaction id and a position."""

    def beginning(self, replay: Replay) -> Place:
        """The place before the first event of a new replay, and its end."""
        ...

    def whole(self, replay: Replay) -> Place:
        """The place before the first event of a replay that is not stored, for a transaction that only reads."""
        ...

    def is_complete(self, place: Place) -> bool:
        """Whether no event can appear any more in front of the end of the range."""
        ...

    def ahead(self, replay: Replay, place: Place) -> tuple[str, tuple[object, ...]]:
        """The condition for the events behind the place and in front of the end, and its parameters."""
        ...


class _OrderOfPositions:
    """Satisfies `_Order` on SQLite: events appear in the order of their positions, so the end is known at the beginning."""

    place_columns = "0, position"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beginning(self, replay: Replay) -> Place:
        """From the first to the last position that exists in the range of times."""
        [(first, last)] = self._connection.execute(
            "SELECT MIN(position), MAX(position) FROM events WHERE created_at BETWEEN ? AND ?",
            (replay.since, replay.until),
        )
        return Place(0, (first or 1) - 1, last or 0)

    def whole(self, replay: Replay) -> Place:
        """From the first to the last event whose id is of the range of times, found by their ids."""
        ids = floor("evt", max(0, replay.since - _ID_BEFORE_EVENT_MS)), floor("evt", replay.until + 1)
        [(first, last)] = self._connection.execute(
            "SELECT (SELECT position FROM events WHERE id >= ? ORDER BY id LIMIT 1),"
            " (SELECT position FROM events WHERE id < ? ORDER BY id DESC LIMIT 1)",
            ids,
        )
        return Place(0, (first or 1) - 1, last or 0)

    def is_complete(self, place: Place) -> bool:  # noqa: ARG002 - the signature of the protocol
        """Always: no event appears at a position in front of an existing one."""
        return True

    def ahead(self, replay: Replay, place: Place) -> tuple[str, tuple[object, ...]]:  # noqa: ARG002 - the same
        """A range of positions."""
        return "position > ? AND position <= ?", (place.position, place.last)


class _OrderOfTransactions:
    """Satisfies `_Order` on PostgreSQL: events are ordered by their transactions, and a transaction may commit late."""

    place_columns = "CAST(CAST(transaction_id AS TEXT) AS BIGINT) AS transaction_number, position"
    """The alias keeps `ORDER BY transaction_id` at the column of the table: without it, PostgreSQL calls this one so, too, and
    reads and sorts the whole range for each page."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def beginning(self, replay: Replay) -> Place:  # noqa: ARG002 - the signature of the protocol
        """From the first event of all to the transaction that stores the replay."""
        [(transaction_id,)] = self._connection.execute(
            "SELECT CAST(CAST(lasting_transaction_id(pg_current_xact_id()) AS TEXT) AS BIGINT)"
        )
        return Place(0, 0, int(transaction_id))

    def whole(self, replay: Replay) -> Place:  # noqa: ARG002 - the signature of the protocol
        """Before the first event of all. The end is only looked at by `is_complete`."""
        return Place(0, 0, 0)

    def is_complete(self, place: Place) -> bool:
        """Whether every transaction that was open beside the one that stored the replay has ended."""
        [(complete,)] = self._connection.execute(
            "SELECT lasting_transaction_id(pg_snapshot_xmin(pg_current_snapshot())) > CAST(CAST(? AS TEXT) AS XID8)",
            (str(place.last),),
        )
        return bool(complete)

    def ahead(self, replay: Replay, place: Place) -> tuple[str, tuple[object, ...]]:
        """A range of the order without the events in front of which another may still appear.

        The ids select the partitions. An id holds the time at which it was made; a day is added on both sides for hosts whose
        clock was changed.
        """
        ids = floor("evt", max(0, replay.since - MS_PER_DAY)), floor("evt", replay.until + MS_PER_DAY)
        condition = (
            "id >= ? AND id < ? AND (transaction_id, position) > (CAST(CAST(? AS TEXT) AS XID8), ?)"
            f" AND {self._connection.dialect.is_settled_event}"
        )
        return condition, (*ids, str(place.transaction_id), place.position)
