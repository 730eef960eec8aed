"""Jobs that send a range of an account's events to one endpoint again, or for the first time.

A job walks the events in the order of the poller, a bounded piece at a time. Each piece is one transaction that holds the
job's row, acts, and moves the job's place: whatever happens between two pieces, none is skipped and none is done twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.kernel.ids import delivery_id, floor
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.tables.backfills import PAST_EVENT_COLUMNS, BackfillTables, PastEvent, past_event
from loyalpro.storage.tables.endpoints import Endpoint, EndpointTables, split_types

MISSING: Final = "missing"
STATUSES: Final = ("succeeded", "exhausted", "canceled", MISSING)
_PIECE = 200
_MOST_COUNTED = 5_000
_COLUMNS = (
    "id, account_id, endpoint_id, since, until, types, statuses, status, cursor, examined, replayed, created_at,"
    " finished_at"
)

_AHEAD_IN_POSTGRES = """
id >= ? AND id < ? AND (transaction_id, position) > (CAST(CAST(? AS TEXT) AS XID8), ?)
AND transaction_id < lasting_transaction_id(pg_snapshot_xmin(pg_current_snapshot())) ORDER BY transaction_id, position
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job stands in the order of events, and the end that it has to reach.

    On SQLite `last` is the last position that existed when the job was made; `transaction_id` is 0. On PostgreSQL `last`
    is the job's own transaction: everything that may have been open beside it has an id below the poller's limit, in the
    end, and only then is the job done.
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


@dataclass(frozen=True, slots=True)
class Replay:
    """One job. `types` is None for all of them; `status` is `running`, `done` or `canceled`."""

    id: str
    account_id: str
    endpoint_id: str
    since: UnixMs
    until: UnixMs
    types: tuple[str, ...] | None
    statuses: tuple[str, ...]
    status: str
    cursor: str
    examined: int
    replayed: int
    created_at: UnixMs
    finished_at: UnixMs | None


@dataclass(frozen=True, slots=True)
class Piece:
    """What a piece of a job did: whether there is more to do now, and the endpoint if it is owed something."""

    more: bool
    owed: tuple[str, ...] = ()


class ReplayTables:
    """The replays table, inside one transaction."""

    def __init__(self, connection: Connection, endpoints: EndpointTables) -> None:
        self._connection = connection
        self._endpoints = endpoints
        self._backfills = BackfillTables(connection)
        self._sqlite = not connection.dialect.is_postgres
        self._skip_locked = "" if self._sqlite else " FOR UPDATE SKIP LOCKED"

    def insert(self, replay: Replay) -> None:
        """Store a new job, at the beginning of its range."""
        place = self._beginning(replay)
        types = None if replay.types is None else " ".join(replay.types)
        self._connection.execute(
            f"INSERT INTO replays ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 'running', ?, 0, 0, ?, NULL)",
            (
                replay.id,
                replay.account_id,
                replay.endpoint_id,
                replay.since,
                replay.until,
                types,
                " ".join(replay.statuses),
                str(place),
                replay.created_at,
            ),
        )

    def get(self, account_id: str, endpoint_id: str, replay_id: str) -> Replay | None:
        """One job."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM replays WHERE account_id = ? AND endpoint_id = ? AND id = ?",
            (account_id, endpoint_id, replay_id),
        )
        return _replay(rows[0]) if rows else None

    def list_before(self, endpoint_id: str, before_id: str | None, limit: int) -> list[Replay]:
        """An endpoint's jobs, newest first."""
        older, params = ("", ()) if before_id is None else (" AND id < ?", (before_id,))
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM replays WHERE endpoint_id = ?{older} ORDER BY id DESC LIMIT ?",
            (endpoint_id, *params, limit),
        )
        return [_replay(row) for row in rows]

    def cancel(self, replay_id: str, now: UnixMs) -> None:
        """End a job that is running; what it has made due stays so."""
        self._finish(replay_id, "canceled", now)

    def running(self) -> list[str]:
        """The jobs that have something to do, oldest first."""
        return [
            id_ for (id_,) in self._connection.execute("SELECT id FROM replays WHERE status = 'running' ORDER BY id")
        ]

    def estimated_total(self, replay: Replay) -> int:
        """About how many events the job will have examined in the end; exact when no more than some thousands are left."""
        if replay.status != "running":
            return replay.examined
        sql, params = self._range(replay, Place.parse(replay.cursor), "created_at", _MOST_COUNTED)
        [(count, first, last)] = self._connection.execute(
            f"SELECT COUNT(*), MIN(created_at), MAX(created_at) FROM ({sql}) AS ahead", params
        )
        if count < _MOST_COUNTED:
            return replay.examined + int(count)
        return replay.examined + int(count * max(1.0, (replay.until - first) / max(1, last - first)))

    # -- one piece -----------------------------------------------------------------------------------------------------

    def work(self, replay_id: str, now: UnixMs) -> Piece:
        """Do the next piece of a job, unless somebody else is doing it."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM replays WHERE id = ? AND status = 'running'{self._skip_locked}", (replay_id,)
        )
        if not rows:
            return Piece(more=False)
        replay = _replay(rows[0])
        endpoint = self._endpoints.get(replay.account_id, replay.endpoint_id, lock=True)
        if endpoint is None:
            self._finish(replay.id, "canceled", now)
            return Piece(more=False)
        return self._walk(replay, endpoint, now)

    def _walk(self, replay: Replay, endpoint: Endpoint, now: UnixMs) -> Piece:
        place = Place.parse(replay.cursor)
        complete = self._is_complete(place)  # asked first: what was open by then is below, or is not there
        sql, params = self._range(replay, place, f"{PAST_EVENT_COLUMNS}, {self._place_columns}", _PIECE)
        rows = self._connection.execute(sql, params)
        replayed = self._act(replay, endpoint, [past_event(row[:-2]) for row in rows], now)
        if rows:
            place = Place(int(rows[-1][-2]), rows[-1][-1], place.last)
        self._connection.execute(
            "UPDATE replays SET cursor = ?, examined = examined + ?, replayed = replayed + ? WHERE id = ?",
            (str(place), len(rows), replayed, replay.id),
        )
        if len(rows) < _PIECE and complete:
            self._finish(replay.id, "done", now)
        return Piece(more=len(rows) == _PIECE, owed=(endpoint.id,) if replayed else ())

    def _act(self, replay: Replay, endpoint: Endpoint, events: Sequence[PastEvent], now: UnixMs) -> int:
        """Make due what the job asks for, each customer's in their order; how many deliveries that were."""
        wanted = [each for each in events if replay.types is None or each.type in replay.types]
        kept = self._backfills.kept([each.id for each in wanted])
        if not kept:
            return 0
        known = self._known({delivery_id(id_, endpoint.id) for id_ in kept})
        ended = [status for status in replay.statuses if status != MISSING]
        replayed = 0
        for event in sorted((each for each in wanted if each.id in kept), key=lambda each: each.sequence or 0):
            if delivery_id(event.id, endpoint.id) in known:
                replayed += bool(ended) and self._backfills.renew(ended, event, endpoint, now)
            elif MISSING in replay.statuses:
                self._backfills.owe(event, endpoint, now)
                replayed += 1
        return replayed

    def _known(self, delivery_ids: set[str]) -> set[str]:
        marks = ", ".join("?" * len(delivery_ids))
        rows = self._connection.execute(f"SELECT id FROM deliveries WHERE id IN ({marks})", sorted(delivery_ids))
        return {id_ for (id_,) in rows}

    def _finish(self, replay_id: str, status: str, now: UnixMs) -> None:
        self._connection.execute(
            "UPDATE replays SET status = ?, finished_at = ? WHERE id = ? AND status = 'running'",
            (status, now, replay_id),
        )

    # -- the order of events -------------------------------------------------------------------------------------------

    def _beginning(self, replay: Replay) -> Place:
        if self._sqlite:
            [(first, last)] = self._connection.execute(
                "SELECT MIN(position), MAX(position) FROM events WHERE created_at BETWEEN ? AND ?",
                (replay.since, replay.until),
            )
            return Place(0, (first or 1) - 1, last or 0)
        [(transaction_id,)] = self._connection.execute(
            "SELECT CAST(CAST(lasting_transaction_id(pg_current_xact_id()) AS TEXT) AS BIGINT)"
        )
        return Place(0, 0, int(transaction_id))

    def _is_complete(self, place: Place) -> bool:
        """Whether nothing can appear any more that the job has to see."""
        if self._sqlite:
            return True
        [(complete,)] = self._connection.execute(
            "SELECT lasting_transaction_id(pg_snapshot_xmin(pg_current_snapshot())) > CAST(CAST(? AS TEXT) AS XID8)",
            (str(place.last),),
        )
        return bool(complete)

    @property
    def _place_columns(self) -> str:
        return "0, position" if self._sqlite else "CAST(CAST(transaction_id AS TEXT) AS BIGINT), position"

    def _range(self, replay: Replay, place: Place, columns: str, limit: int) -> tuple[str, tuple[object, ...]]:
        """The next events of a job's range.

        On PostgreSQL ids choose the partitions. They carry the time of their making, to which a day is added on both
        sides, for hosts whose clock was set.
        """
        select = f"SELECT {columns} FROM events WHERE account_id = ? AND test = 0 AND created_at BETWEEN ? AND ?"
        params: tuple[object, ...] = (replay.account_id, replay.since, replay.until)
        if self._sqlite:
            ahead = "position > ? AND position <= ? ORDER BY position"
            params += (place.position, place.last)
        else:
            ahead = _AHEAD_IN_POSTGRES
            ids = floor("evt", max(0, replay.since - MS_PER_DAY)), floor("evt", replay.until + MS_PER_DAY)
            params += (*ids, str(place.transaction_id), place.position)
        return f"{select} AND {ahead} LIMIT ?", (*params, limit)


def _replay(row: Row) -> Replay:
    values = list(row)
    values[5] = None if row[5] is None else tuple(split_types(row[5]))
    values[6] = tuple(row[6].split(" "))
    return Replay(*values)
