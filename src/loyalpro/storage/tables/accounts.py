"""The accounts table. Satisfies `accounts.ports.AccountStore`."""

from loyalpro.accounts.entities import Account, FirstAccount
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.sql import where

_SELECT = (
    "SELECT id, name, created_at,"
    " (SELECT COUNT(*) FROM api_keys k WHERE k.account_id = accounts.id AND k.revoked_at IS NULL) FROM accounts"
)


class AccountTables:
    """Accounts, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def first(self) -> FirstAccount | None:
        """The account that was opened first; None on an empty database."""
        rows = self._connection.execute(
            "SELECT a.id, EXISTS (SELECT 1 FROM api_keys k WHERE k.account_id = a.id),"
            " EXISTS (SELECT 1 FROM members m WHERE m.account_id = a.id AND m.role = 'owner')"
            " FROM accounts a ORDER BY a.id LIMIT 1"
        )
        for id_, has_key, has_owner in rows:
            return FirstAccount(id_, has_key=bool(has_key), has_owner=bool(has_owner))
        return None

    def lock_first(self) -> None:
        """Keep every other transaction from opening or completing the first account until this one ends.

        There may be no row yet, so the whole table is locked. SQLite runs one writing transaction at a time and has no
        such statement.
        """
        if self._connection.dialect.is_postgres:
            self._connection.execute("LOCK TABLE accounts IN SHARE ROW EXCLUSIVE MODE")

    def insert(self, account_id: str, name: str, now: UnixMs) -> None:
        """Store an account."""
        self._connection.execute(
            "INSERT INTO accounts (id, name, created_at) VALUES (?, ?, ?)", (account_id, name, now)
        )

    def exists(self, account_id: str) -> bool:
        """Whether there is such an account."""
        return bool(self._connection.execute("SELECT 1 FROM accounts WHERE id = ?", (account_id,)))

    def name(self, account_id: str) -> str:
        """The name of an account that exists."""
        [(name,)] = self._connection.execute("SELECT name FROM accounts WHERE id = ?", (account_id,))
        return str(name)

    def list_after(self, after_id: str | None, limit: int) -> list[Account]:
        """Accounts, oldest first."""
        clause, params = where(("id > ?", after_id))
        rows = self._connection.execute(f"{_SELECT} {clause} ORDER BY id LIMIT ?", (*params, limit))
        return [Account(id_, name, created_at, keys) for id_, name, created_at, keys in rows]

    def rename(self, account_id: str, name: str) -> None:
        """Change the name of an account."""
        self._connection.execute("UPDATE accounts SET name = ? WHERE id = ?", (name, account_id))

    def limit_support(self, account_id: str, points: int | None) -> None:
        """Change how many points support may give or take at once; None for no limit."""
        self._connection.execute("UPDATE accounts SET support_points_limit = ? WHERE id = ?", (points, account_id))

    def require_second_factor(self, account_id: str, *, required: bool) -> None:
        """Change whether an account requires a second factor of all its members."""
        self._connection.execute(
            "UPDATE accounts SET requires_second_factor = ? WHERE id = ?", (int(required), account_id)
        )
