"""The programs of accounts. Satisfies `loyalty.ports.ProgramStore`."""

import json
from dataclasses import asdict

from loyalpro.loyalty.program import EarnRule, Program, ProgramMissing, Tier
from loyalpro.storage.connection import Connection


class ProgramTables:
    """Programs, inside one transaction, which reads each of them once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._read: dict[str, Program] = {}

    def insert(self, account_id: str, program: Program) -> None:
        """Store the first program of a new account."""
        self._connection.execute(
            "INSERT INTO programs (account_id, rules, version) VALUES (?, ?, 1)",
            (account_id, json.dumps(asdict(program))),
        )

    def get(self, account_id: str) -> Program:
        """The rules in force. Raises `ProgramMissing` for an account without a program."""
        if account_id not in self._read:
            rows = self._connection.execute("SELECT rules FROM programs WHERE account_id = ?", (account_id,))
            if not rows:
                raise ProgramMissing(f"The account {account_id} has no program.")
            self._read[account_id] = _program(rows[0][0])
        return self._read[account_id]


def _program(rules: str) -> Program:
    raw = json.loads(rules)
    tiers = tuple(Tier(**{"rank": rank, **tier}) for rank, tier in enumerate(raw.pop("tiers"), 1))
    return Program(**raw | {"earn": EarnRule(**raw["earn"]), "tiers": tiers})
