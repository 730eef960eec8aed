"""The replays table, and the range of events that each replay walks through. Satisfies `webhooks.ports.ReplayStore`."""

from dataclasses import dataclass, replace

from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.kernel.ids import floor
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import WORDS, RowMapper
from loyalpro.storage.tables.events import PAST_EVENTS
from loyalpro.webhooks.entities import Replay, ReplayPage

_REPLAYS = RowMapper(Replay, "replays", codecs={"types": WORDS, "statuses": WORDS})
_MOST_COUNTED = 5_000

_AHEAD_IN_POSTGRES = """
id >= ? AND id < ? AND (transaction_id, position) > (CAST(CAST(? AS TEXT) AS XID8), ?)
AND transaction_id < lasting_transaction_id(pg_snapshot_xmin(pg_current_snapshot())) ORDER BY transaction_id, position
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replay stands in the order of events, and the end that it has to reach.

    On SQLite `last` is the last position that existed when the replay was stored; `transaction_id` is 0. On PostgreSQL `last`
    is the transaction that stored the replay. Every transaction that was open beside it ends up below the limit of pollers,
    and only then is the replay done.
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
        self._sqlite = not connection.dialect.is_postgres
        self._skip_locked = "" if self._sqlite else " FOR UPDATE SKIP LOCKED"

    def insert(self, replay: Replay) -> None:
        """Store a new replay, at the beginning of its range."""
        placed = replace(replay, cursor=str(self._beginning(replay)))
        self._connection.execute(_REPLAYS.insert, _REPLAYS.values(placed))

    def get(self, account_id: str, endpoint_id: str, replay_id: str) -> Replay | None:
        """One replay."""
        rows = self._connection.execute(
            f"SELECT {_REPLAYS.columns()} FROM replays WHERE account_id = ? AND endpoint_id = ? AND id = ?",
            (account_id, endpoint_id, replay_id),
        )
        return _REPLAYS.record(rows[0]) if rows else None

    def list_before(self, endpoint_id: str, before_id: str | None, limit: int) -> list[Replay]:
        """An endpoint's replays, newest first."""
        older, params = ("", ()) if before_id is None else (" AND id < ?", (before_id,))
        rows = self._connection.execute(
            f"SELECT {_REPLAYS.columns()} FROM replays WHERE endpoint_id = ?{older} ORDER BY id DESC LIMIT ?",
            (endpoint_id, *params, limit),
        )
        return _REPLAYS.records(rows)

    def running(self) -> list[str]:
        """The ids of replays that have something to do, oldest first."""
        return [
            id_ for (id_,) in self._connection.execute("SELECT id FROM replays WHERE status = 'running' ORDER BY id")
        ]

    def estimated_total(self, replay: Replay) -> int:
        """About how many events the replay will have examined in the end; exact when at most 5,000 are left."""
        if replay.status != "running":
            return replay.examined
        sql, params = self._range(replay, Place.parse(replay.cursor), "created_at", _MOST_COUNTED)
        [(count, first, last)] = self._connection.execute(
            f"SELECT COUNT(*), MIN(created_at), MAX(created_at) FROM ({sql}) AS ahead", params
        )
        if count < _MOST_COUNTED:
            return replay.examined + int(count)
        return replay.examined + int(count * max(1.0, (replay.until - first) / max(1, last - first)))

    # -- one page ----------------------------------------------------------------------------------------------------

    def lock_running(self, replay_id: str) -> Replay | None:
        """A running replay, unless another process is working on it."""
        rows = self._connection.execute(
            f"SELECT {_REPLAYS.columns()} FROM replays WHERE id = ? AND status = 'running'{self._skip_locked}",
            (replay_id,),
        )
        return _REPLAYS.record(rows[0]) if rows else None

    def next_events(self, replay: Replay, limit: int) -> ReplayPage:
        """The next events of the range, in the order of their commits."""
        place = Place.parse(replay.cursor)
        complete = self._is_complete(place)  # asked first: transactions that are open afterwards are not in the range
        sql, params = self._range(replay, place, f"{PAST_EVENTS.columns()}, {self._place_columns}", limit)
        rows = self._connection.execute(sql, params)
        if rows:
            transaction_id, position = rows[-1][PAST_EVENTS.width :]
            place = Place(int(transaction_id), position, place.last)
        return ReplayPage(PAST_EVENTS.records(rows), str(place), is_last=len(rows) < limit and complete)

    def advance(self, replay: Replay, page: ReplayPage, replayed: int) -> None:
        """Move the replay to the end of a page, `replayed` of whose events have a delivery that was made due."""
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
        """Whether no event of the range can appear any more."""
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
        """The next events of a replay's range.

        On PostgreSQL the ids select the partitions. An id holds the time at which it was made; a day is added on both sides
        for hosts whose clock was changed.
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
