"""The second_factors and recovery_codes tables. Satisfies `accounts.ports.SecondFactorStore`."""

from collections.abc import Sequence
from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.digests import digest_of
from loyalpro.storage.vault import Vault

_PUT: Final = """
INSERT INTO second_factors (person_id, sealed, last_step, created_at) VALUES (?, ?, 0, ?)
ON CONFLICT (person_id) DO UPDATE SET sealed = excluded.sealed, last_step = 0, created_at = excluded.created_at
"""


class SecondFactorTables:
    """Second factors, inside one database transaction."""

    def __init__(self, connection: Connection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    def put(self, person_id: str, secret: str, now: UnixMs) -> None:
        """Store the secret of a person, sealed, in place of another."""
        self._connection.execute(_PUT, (person_id, self._vault.seal(secret, owner=_owner(person_id)), now))

    def secret(self, person_id: str) -> str | None:
        """The secret of a person."""
        rows = self._connection.execute("SELECT sealed FROM second_factors WHERE person_id = ?", (person_id,))
        return self._vault.open(rows[0][0], owner=_owner(person_id)) if rows else None

    def use_step(self, person_id: str, step: int) -> bool:
        """Note that the code of a step was used; False if that, or a later one, was used before."""
        sql = "UPDATE second_factors SET last_step = ? WHERE person_id = ? AND last_step < ?"
        return bool(self._connection.change(sql, (step, person_id, step)))

    def remove(self, person_id: str) -> None:
        """Remove the secret and the recovery codes of a person."""
        self._connection.execute("DELETE FROM second_factors WHERE person_id = ?", (person_id,))
        self._connection.execute("DELETE FROM recovery_codes WHERE person_id = ?", (person_id,))

    def put_recovery_codes(self, person_id: str, codes: Sequence[str]) -> None:
        """Store the digests of recovery codes in place of all others."""
        self._connection.execute("DELETE FROM recovery_codes WHERE person_id = ?", (person_id,))
        self._connection.execute_many(
            "INSERT INTO recovery_codes (person_id, digest) VALUES (?, ?)",
            [(person_id, digest_of(each)) for each in codes],
        )

    def use_recovery_code(self, person_id: str, code: str) -> bool:
        """Remove a recovery code; False if there is no such code."""
        sql = "DELETE FROM recovery_codes WHERE person_id = ? AND digest = ?"
        return bool(self._connection.change(sql, (person_id, digest_of(code))))

    def count_recovery_codes(self, person_id: str) -> int:
        """How many recovery codes are left."""
        [(count,)] = self._connection.execute("SELECT COUNT(*) FROM recovery_codes WHERE person_id = ?", (person_id,))
        return int(count)

    def seal_all(self) -> None:
        """Seal each secret with the newest key of the vault, so that older ones can be removed."""
        for person_id, sealed in self._connection.execute("SELECT person_id, sealed FROM second_factors"):
            if not self._vault.is_newest(sealed):
                again = self._vault.seal(self._vault.open(sealed, owner=_owner(person_id)), owner=_owner(person_id))
                self._connection.execute(
                    "UPDATE second_factors SET sealed = ? WHERE person_id = ? AND sealed = ?",
                    (again, person_id, sealed),
                )

    def sealed_owners(self) -> dict[bytes, str]:
        """Of each key of the vault that is in use, a person whose secret is sealed with it."""
        rows = self._connection.execute("SELECT sealed, person_id FROM second_factors")
        return {self._vault.key_id(sealed): person_id for sealed, person_id in rows}


def _owner(person_id: str) -> str:
    return f"{person_id}/second_factor"
