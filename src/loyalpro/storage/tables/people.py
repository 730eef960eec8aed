"""The users and members tables. Satisfies `accounts.ports.PeopleStore`."""

from collections.abc import Collection
from typing import Final

from loyalpro.accounts.entities import Credentials, Member, Membership, Person
from loyalpro.accounts.roles import Role
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import FLAG, RowMapper
from loyalpro.storage.sql import marks, padded_list, where

PEOPLE: Final = RowMapper(Person, "users", codecs={"shortcuts": FLAG, "has_second_factor": FLAG})
MEMBERSHIPS: Final = RowMapper(Membership, "memberships", codecs={"requires_second_factor": FLAG})
MEMBERSHIP_ROWS: Final = (
    "(SELECT m.account_id, a.name AS account_name, m.person_id, m.role, m.created_at, m.last_seen_at,"
    " a.requires_second_factor, a.support_points_limit FROM members m JOIN accounts a ON a.id = m.account_id)"
)
"""The rows of `MEMBERSHIPS`, as a table."""

_SETTINGS: Final = ("name", "time_zone", "theme", "shortcuts", "has_second_factor")
_INSERT: Final = (
    f"INSERT INTO users ({PEOPLE.columns()}, password_hash, account_id, role) VALUES ({'?, ' * PEOPLE.width}?, ?, ?)"
)
_SET_ROLE: Final = "UPDATE members SET role = ? WHERE account_id = ? AND person_id = ?"
_CREDENTIALS: Final = f"SELECT {PEOPLE.columns()}, password_hash FROM users"
_BY_EMAIL: Final = f"{_CREDENTIALS} WHERE lower(email) = lower(?)"
_LOCK: Final = DialectSql(lambda dialect: f"{_CREDENTIALS} WHERE id = ? {dialect.for_no_key_update}")
_UPDATE: Final = f"UPDATE users SET {PEOPLE.assignments(*_SETTINGS)} WHERE id = ?"
_LOCK_ACCOUNT: Final = DialectSql(lambda dialect: f"SELECT id FROM accounts WHERE id = ? {dialect.for_no_key_update}")
_MEMBERS: Final = (
    f"SELECT {PEOPLE.columns('p')}, m.role, m.created_at, m.last_seen_at"
    " FROM members m JOIN users p ON p.id = m.person_id"
)


class PeopleTables:
    """People and memberships, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, person: Person, password_hash: str, account_id: str, role: Role) -> None:
        """Store a person, as a member of an account. The trigger of older programs has made the member already."""
        first_role = "owner" if role == "owner" else "member"
        self._connection.execute(_INSERT, (*PEOPLE.values(person), password_hash, account_id, first_role))
        self._connection.execute(_SET_ROLE, (role, account_id, person.id))

    def get(self, person_id: str) -> Person | None:
        """One person."""
        rows = self._connection.execute(f"SELECT {PEOPLE.columns()} FROM users WHERE id = ?", (person_id,))
        return PEOPLE.record(rows[0]) if rows else None

    def credentials(self, email: str) -> Credentials | None:
        """The person with this e-mail address, in whatever case, with the hash of the password."""
        return self._credentials(_BY_EMAIL, email)

    def lock(self, person_id: str) -> Credentials | None:
        """One person with the hash of the password. No other transaction changes either until this one ends."""
        return self._credentials(_LOCK[self._connection.dialect], person_id)

    def update(self, person: Person) -> None:
        """Store name, time zone, theme, shortcuts, and whether there is a second factor."""
        self._connection.execute(_UPDATE, (*PEOPLE.values_of(person, *_SETTINGS), person.id))

    def set_password(self, person_id: str, password_hash: str) -> None:
        """Replace the hash of the password."""
        self._connection.execute("UPDATE users SET password_hash = ? WHERE id = ?", (password_hash, person_id))

    def memberships(self, person_id: str) -> list[Membership]:
        """The accounts of a person, the one that was used last first."""
        rows = self._connection.execute(
            f"SELECT {MEMBERSHIPS.columns('m')} FROM {MEMBERSHIP_ROWS} m WHERE m.person_id = ?", (person_id,)
        )
        return sorted(MEMBERSHIPS.records(rows), key=lambda each: (-(each.last_seen_at or 0), each.account_id))

    def names(self, account_id: str, person_ids: Collection[str]) -> dict[str, str]:
        """The names, or else e-mail addresses, of the members among these people, of which there is at least one."""
        padded = padded_list(person_ids)
        rows = self._connection.execute(
            "SELECT p.id, p.name, p.email FROM members m JOIN users p ON p.id = m.person_id"
            f" WHERE m.account_id = ? AND m.person_id IN ({marks(len(padded))})",
            (account_id, *padded),
        )
        return {id_: name or email for id_, name, email in rows}

    def add_member(self, account_id: str, person_id: str, role: Role, now: UnixMs) -> bool:
        """Make a person a member; False for one who is a member already."""
        return bool(
            self._connection.change(
                "INSERT INTO members (account_id, person_id, role, created_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (account_id, person_id) DO NOTHING",
                (account_id, person_id, role, now),
            )
        )

    def lock_members(self, account_id: str) -> None:
        """Keep every other transaction from changing or removing members of the account until this one ends."""
        self._connection.execute(_LOCK_ACCOUNT[self._connection.dialect], (account_id,))

    def owners(self, account_id: str) -> list[str]:
        """The ids of the owners of an account."""
        rows = self._connection.execute(
            "SELECT person_id FROM members WHERE account_id = ? AND role = 'owner'", (account_id,)
        )
        return [person_id for (person_id,) in rows]

    def member(self, account_id: str, person_id: str) -> Member | None:
        """One member."""
        rows = self._connection.execute(
            f"{_MEMBERS} WHERE m.account_id = ? AND m.person_id = ?", (account_id, person_id)
        )
        return _member(rows[0]) if rows else None

    def list_members(self, account_id: str, after_id: str | None, limit: int) -> list[Member]:
        """Members in the order of their ids: those after `after_id`."""
        clause, params = where(("m.account_id = ?", account_id), ("m.person_id > ?", after_id))
        rows = self._connection.execute(f"{_MEMBERS} {clause} ORDER BY m.person_id LIMIT ?", (*params, limit))
        return [_member(row) for row in rows]

    def set_role(self, account_id: str, person_id: str, role: Role) -> None:
        """Change the role of a member."""
        self._connection.execute(_SET_ROLE, (role, account_id, person_id))

    def remove_member(self, account_id: str, person_id: str) -> None:
        """Remove a member from an account. A foreign key ends the member's web sessions in it."""
        self._connection.execute("DELETE FROM members WHERE account_id = ? AND person_id = ?", (account_id, person_id))

    def seen(self, account_id: str, person_id: str, now: UnixMs) -> None:
        """Store when a member was last seen."""
        self._connection.execute(
            "UPDATE members SET last_seen_at = ? WHERE account_id = ? AND person_id = ?"
            " AND (last_seen_at IS NULL OR last_seen_at < ?)",
            (now, account_id, person_id, now),
        )

    def _credentials(self, sql: str, param: str) -> Credentials | None:
        for person, (password_hash,) in map(PEOPLE.split, self._connection.execute(sql, (param,))):
            return Credentials(person, password_hash)
        return None


def _member(row: tuple[object, ...]) -> Member:
    person, (role, created_at, last_seen_at) = PEOPLE.split(row)
    return Member(person, role, created_at, last_seen_at)
