"""The sign_in_tries table. Satisfies `accounts.ports.TryStore`."""

from collections.abc import Mapping, Sequence
from typing import Final

from loyalpro.accounts.entities import Tries
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import JSON_TUPLE, RowMapper

_TRIES: Final = RowMapper(Tries, "sign_in_tries", codecs={"recent": JSON_TUPLE})
_MAKE: Final = f"""
INSERT INTO sign_in_tries ({_TRIES.columns()}, key, forget_at) VALUES (?, ?, ?, ?, 0) ON CONFLICT (key) DO NOTHING
"""
_LOCK: Final = DialectSql(
    lambda dialect: f"SELECT {_TRIES.columns()} FROM sign_in_tries WHERE key = ? {dialect.for_update}"
)
_STORE: Final = (
    f"UPDATE sign_in_tries SET {_TRIES.assignments('recent', 'blocks', 'blocked_until')}, forget_at = ? WHERE key = ?"
)


class TryTables:
    """Tries to sign in, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self, keys: Sequence[bytes]) -> dict[bytes, Tries]:
        """The tries of each key. No other transaction counts one until this one ends.

        A row that is missing is made first, because only a row can be locked; all processes do it in the order of the keys.
        """
        found = {}
        for key in keys:
            self._connection.execute(_MAKE, (*_TRIES.values(Tries()), key))
            [row] = self._connection.execute(_LOCK[self._connection.dialect], (key,))
            found[key] = _TRIES.record(row)
        return found

    def store(self, tries: Mapping[bytes, tuple[Tries, UnixMs]]) -> None:
        """Store the tries of keys that are locked, and when they may be forgotten."""
        rows = [(*_TRIES.values(each), forget_at, key) for key, (each, forget_at) in tries.items()]
        self._connection.execute_many(_STORE, rows)

    def remove(self, keys: Sequence[bytes]) -> None:
        """Forget the tries of keys."""
        self._connection.execute_many("DELETE FROM sign_in_tries WHERE key = ?", [(key,) for key in keys])

    def remove_old(self, now: UnixMs, limit: int) -> int:
        """Remove so many rows that make no difference any more; how many."""
        return self._connection.change(
            "DELETE FROM sign_in_tries WHERE key IN"
            " (SELECT key FROM sign_in_tries WHERE forget_at < ? ORDER BY forget_at LIMIT ?) AND forget_at < ?",
            (now, limit, now),
        )
