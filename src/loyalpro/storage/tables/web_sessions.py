"""The web_sessions table. Satisfies `accounts.ports.WebSessionStore`."""

from typing import Final

from loyalpro.accounts.entities import SignedIn, WebSession
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import FLAG, RowMapper
from loyalpro.storage.tables.digests import digest_of
from loyalpro.storage.tables.people import MEMBERSHIP_ROWS, MEMBERSHIPS, PEOPLE

_SESSIONS: Final = RowMapper(WebSession, "web_sessions", codecs={"awaits_code": FLAG})
_INSERT: Final = f"INSERT INTO web_sessions ({_SESSIONS.columns()}, digest) VALUES ({'?, ' * _SESSIONS.width}?)"
_FIND: Final = f"""
SELECT {_SESSIONS.columns("s")}, {PEOPLE.columns("p")}, {MEMBERSHIPS.columns("m")} FROM web_sessions s
JOIN users p ON p.id = s.person_id JOIN {MEMBERSHIP_ROWS} m ON m.person_id = s.person_id WHERE s.digest = ?
"""
_STATE: Final = ("account_id", "used_at", "proved_at", "awaits_code")
_REPLACE: Final = f"UPDATE web_sessions SET {_SESSIONS.assignments(*_STATE)}, digest = ? WHERE id = ? AND person_id = ?"
_END: Final = "DELETE FROM web_sessions WHERE person_id = ?"
_RETURNING: Final = f"RETURNING {_SESSIONS.columns()}"


class WebSessionTables:
    """Web sessions, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, session: WebSession, token: str) -> None:
        """Store a web session and the digest of its token."""
        self._connection.execute(_INSERT, (*_SESSIONS.values(session), digest_of(token)))

    def find(self, token: str) -> SignedIn | None:
        """The web session with this token, also one that was idle for too long. None without a membership in its account.

        There is one row for each membership of the person.
        """
        rows = self._connection.execute(_FIND, (digest_of(token),))
        if not rows:
            return None
        session, rest = _SESSIONS.split(rows[0])
        person = PEOPLE.record(rest)
        found = [MEMBERSHIPS.record(row[_SESSIONS.width + PEOPLE.width :]) for row in rows]
        here = next((each for each in found if each.account_id == session.account_id), None)
        if here is None:
            return None
        others = sorted(
            (each for each in found if each is not here), key=lambda each: (each.account_name, each.account_id)
        )
        return SignedIn(session, person, here, tuple(others))

    def replace(self, session: WebSession, token: str) -> bool:
        """Store the account, the times and the state of a web session, with a new token; False when it has ended."""
        params = (*_SESSIONS.values_of(session, *_STATE), digest_of(token), session.id, session.person_id)
        return bool(self._connection.change(_REPLACE, params))

    def note_use(self, session_id: str, now: UnixMs) -> None:
        """Store the time of the last use."""
        self._connection.execute(
            "UPDATE web_sessions SET used_at = ? WHERE id = ? AND used_at < ?", (now, session_id, now)
        )

    def list_of(self, person_id: str) -> list[WebSession]:
        """The web sessions of a person, newest first.

        The few rows are sorted here, because for `ORDER BY id` PostgreSQL may read all rows in the order of the ids.
        """
        rows = self._connection.execute(
            f"SELECT {_SESSIONS.columns()} FROM web_sessions WHERE person_id = ?", (person_id,)
        )
        return sorted(_SESSIONS.records(rows), key=lambda each: each.id, reverse=True)

    def end(self, person_id: str, session_id: str) -> WebSession | None:
        """End one web session of a person, and return it; None if there is no such one."""
        rows = self._connection.execute(f"{_END} AND id = ? {_RETURNING}", (person_id, session_id))
        return _SESSIONS.record(rows[0]) if rows else None

    def end_all(self, person_id: str, *, keep_id: str | None = None) -> list[WebSession]:
        """End the web sessions of a person, but for one, and return them."""
        return _SESSIONS.records(
            self._connection.execute(f"{_END} AND id <> ? {_RETURNING}", (person_id, keep_id or ""))
        )

    def end_in(self, account_id: str, person_id: str) -> list[WebSession]:
        """End the web sessions of a person in one account, and return them."""
        rows = self._connection.execute(f"{_END} AND account_id = ? {_RETURNING}", (person_id, account_id))
        return _SESSIONS.records(rows)

    def remove_idle(self, before: UnixMs, limit: int) -> int:
        """Remove so many web sessions that were last used before that; how many."""
        return self._connection.change(
            "DELETE FROM web_sessions WHERE id IN"
            " (SELECT id FROM web_sessions WHERE used_at < ? ORDER BY used_at LIMIT ?)",
            (before, limit),
        )
