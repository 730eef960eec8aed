"""The invitations table. Satisfies `accounts.ports.InvitationStore`."""

from typing import Final

from loyalpro.accounts.entities import Invitation
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import RowMapper
from loyalpro.storage.sql import where
from loyalpro.storage.tables.digests import digest_of

_INVITATIONS: Final = RowMapper(Invitation, "invitations")
_INSERT: Final = f"INSERT INTO invitations ({_INVITATIONS.columns()}, digest) VALUES ({'?, ' * _INVITATIONS.width}?)"
_FIND: Final = f"SELECT {_INVITATIONS.columns()} FROM invitations WHERE digest = ?"
_LOCK: Final = DialectSql(lambda dialect: f"{_FIND} {dialect.for_update}")


class InvitationTables:
    """Invitations, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, invitation: Invitation, token: str) -> None:
        """Store an invitation and the digest of its token."""
        self._connection.execute(_INSERT, (*_INVITATIONS.values(invitation), digest_of(token)))

    def lock(self, token: str) -> Invitation | None:
        """The invitation with this token. No other transaction uses it until this one ends."""
        return self._one(_LOCK[self._connection.dialect], token)

    def find(self, token: str) -> Invitation | None:
        """The invitation with this token."""
        return self._one(_FIND, token)

    def list_before(self, account_id: str, before_id: str | None, limit: int, now: UnixMs) -> list[Invitation]:
        """The invitations of an account that can still be used, newest first."""
        clause, params = where(("account_id = ?", account_id), ("id < ?", before_id), ("expires_at > ?", now))
        rows = self._connection.execute(
            f"SELECT {_INVITATIONS.columns()} FROM invitations {clause} ORDER BY id DESC LIMIT ?", (*params, limit)
        )
        return _INVITATIONS.records(rows)

    def remove(self, account_id: str, invitation_id: str) -> Invitation | None:
        """Remove an invitation, and return it; None if there is no such one."""
        rows = self._connection.execute(
            f"DELETE FROM invitations WHERE account_id = ? AND id = ? RETURNING {_INVITATIONS.columns()}",
            (account_id, invitation_id),
        )
        return _INVITATIONS.record(rows[0]) if rows else None

    def remove_of(self, account_id: str, actor: str) -> None:
        """Remove the invitations to an account that this actor has made."""
        self._connection.execute("DELETE FROM invitations WHERE account_id = ? AND created_by = ?", (account_id, actor))

    def remove_expired(self, now: UnixMs, limit: int) -> int:
        """Remove so many invitations that have expired; how many."""
        return self._connection.change(
            "DELETE FROM invitations WHERE id IN"
            " (SELECT id FROM invitations WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
            (now, limit),
        )

    def _one(self, sql: str, token: str) -> Invitation | None:
        rows = self._connection.execute(sql, (digest_of(token),))
        return _INVITATIONS.record(rows[0]) if rows else None
