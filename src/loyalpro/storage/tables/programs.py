"""The programs of accounts, their versions and their tiers. Satisfies `loyalty.ports.ProgramStore`."""

from functools import lru_cache
from typing import Final

import msgspec

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.program import SCHEMA, Program, ProgramMissing, Rules
from loyalpro.loyalty.tiers import Benefit, Tier
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import Codec, RowMapper

_BENEFITS: Final = Codec(
    lambda value: msgspec.json.encode(value).decode(),
    lambda text: msgspec.json.decode(text, type=tuple[Benefit, ...]),
)
_TIERS: Final = RowMapper(Tier, "tiers", codecs={"benefits": _BENEFITS})
_INSERT_TIER: Final = (
    f"INSERT INTO tiers ({_TIERS.columns()}, account_id, created_at) VALUES ({', '.join('?' * (_TIERS.width + 2))})"
)
_ALL_TIERS: Final = f"SELECT {_TIERS.columns()} FROM tiers WHERE account_id = ? ORDER BY rank, id"
_VERSION_IN_FORCE: Final = (
    "SELECT v.version, v.rules, EXISTS (SELECT 1 FROM fraud_rules f WHERE f.account_id = p.account_id)"
    " FROM programs p JOIN program_versions v"
    " ON v.account_id = p.account_id AND v.version = p.version WHERE p.account_id = ?"
)
_INSERT_VERSION: Final = (
    "INSERT INTO program_versions (account_id, version, schema, rules, actor, note, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class ProgramTables:
    """Programs, inside one transaction, which reads each of them once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._read: dict[str, Program] = {}

    def insert(self, account_id: str, program: Program, *, actor: str, now: UnixMs) -> None:
        """Store the first program of a new account."""
        self._connection.execute(
            "INSERT INTO programs (account_id, version) VALUES (?, ?)", (account_id, program.version)
        )
        self._insert_version(account_id, program, actor, None, now)
        self._connection.execute_many(_INSERT_TIER, [(*_TIERS.values(tier), account_id, now) for tier in program.tiers])

    def get(self, account_id: str) -> Program:
        """The rules in force. Raises `ProgramMissing` for an account without a program."""
        if account_id not in self._read:
            self._read[account_id] = self._program(account_id)
        return self._read[account_id]

    def _program(self, account_id: str) -> Program:
        versions, tiers = self._connection.execute_all(
            [(_VERSION_IN_FORCE, (account_id,)), (_ALL_TIERS, (account_id,))]
        )
        if not versions:
            raise ProgramMissing(f"The account {account_id} has no program.")
        [(version, rules, changes_fraud_rules)] = versions
        every = _TIERS.records(tiers)
        return Program(
            version,
            _rules(rules),
            tuple(tier for tier in every if tier.retired_at is None),
            tuple(tier for tier in every if tier.retired_at is not None),
            bool(changes_fraud_rules),
        )

    def _insert_version(self, account_id: str, program: Program, actor: str, note: str | None, now: UnixMs) -> None:
        rules = msgspec.json.encode(program.rules).decode()
        self._connection.execute(_INSERT_VERSION, (account_id, program.version, SCHEMA, rules, actor, note, now))


@lru_cache(maxsize=1_024)
def _rules(text: str) -> Rules:
    """The rules of a version, which never change."""
    return msgspec.json.decode(text, type=Rules)
