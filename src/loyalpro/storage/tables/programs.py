"""The programs of accounts, their versions and their tiers. Satisfies `loyalty.ports.ProgramStore`."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.program import SCHEMA, Program, ProgramMissing, ProgramVersion, Rules
from loyalpro.loyalty.tiers import Benefit, Tier
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.rows import Codec, RowMapper
from loyalpro.storage.sql import where

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
    "INSERT INTO program_versions (account_id, version, schema, rules, tiers, actor, note, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_VERSIONS: Final = "SELECT version, rules, tiers, actor, note, created_at FROM program_versions"
_TIER_FIELDS: Final = ("name", "rank", "threshold", "multiplier_permille", "benefits")


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
        self._insert_version(
            account_id, ProgramVersion(program.version, program.rules, program.tiers, actor, None, now)
        )
        self._insert_tiers(account_id, program.tiers, now)

    def get(self, account_id: str) -> Program:
        """The rules in force. Raises `ProgramMissing` for an account without a program."""
        if account_id not in self._read:
            self._read[account_id] = self._program(account_id)
        return self._read[account_id]

    def lock(self, account_id: str) -> Program:
        """The rules in force, which no other transaction changes until this one ends. Raises `ProgramMissing`."""
        self._connection.execute(
            f"SELECT version FROM programs WHERE account_id = ? {self._connection.dialect.for_update}", (account_id,)
        )
        self._read.pop(account_id, None)
        return self.get(account_id)

    def change(self, account_id: str, before: Program, version: ProgramVersion, retired: Sequence[Tier]) -> None:
        """Put a version into force after the one before it, store its tiers, and retire others."""
        self._connection.execute(
            "UPDATE programs SET version = ? WHERE account_id = ? AND version = ?",
            (version.version, account_id, before.version),
        )
        self._insert_version(account_id, version)
        known = {tier.id for tier in before.tiers}
        self._insert_tiers(account_id, [tier for tier in version.tiers if tier.id not in known], version.created_at)
        self._connection.execute_many(
            f"UPDATE tiers SET {_TIERS.assignments(*_TIER_FIELDS)} WHERE id = ? AND account_id = ? AND retired_at IS NULL",
            [
                (*_TIERS.values_of(tier, *_TIER_FIELDS), tier.id, account_id)
                for tier in version.tiers
                if tier.id in known and tier not in before.tiers
            ],
        )
        self._connection.execute_many(
            "UPDATE tiers SET retired_at = ? WHERE id = ? AND account_id = ? AND retired_at IS NULL",
            [(version.created_at, tier.id, account_id) for tier in retired],
        )
        self._read.pop(account_id, None)

    def version(self, account_id: str, version: int) -> ProgramVersion | None:
        """One version."""
        rows = self._connection.execute(f"{_VERSIONS} WHERE account_id = ? AND version = ?", (account_id, version))
        return _version(rows[0]) if rows else None

    def list_versions(self, account_id: str, before: int | None, limit: int) -> list[ProgramVersion]:
        """Versions, newest first: those before a version."""
        clause, params = where(("account_id = ?", account_id), ("version < ?", before))
        rows = self._connection.execute(f"{_VERSIONS} {clause} ORDER BY version DESC LIMIT ?", (*params, limit))
        return [_version(row) for row in rows]

    def queue_retier(self, job_id: str, account_id: str, actor: str, now: UnixMs) -> None:
        """Store a job that moves all customers to the tiers that they have under the rules in force."""
        self._connection.execute(
            "INSERT INTO jobs (id, account_id, kind, status, params, actor, created_at, updated_at)"
            " VALUES (?, ?, 'retier', 'queued', '{}', ?, ?, ?)",
            (job_id, account_id, actor, now, now),
        )

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

    def _insert_version(self, account_id: str, version: ProgramVersion) -> None:
        rules, tiers = (msgspec.json.encode(each).decode() for each in (version.rules, version.tiers))
        self._connection.execute(
            _INSERT_VERSION,
            (account_id, version.version, SCHEMA, rules, tiers, version.actor, version.note, version.created_at),
        )

    def _insert_tiers(self, account_id: str, tiers: Sequence[Tier], now: UnixMs) -> None:
        self._connection.execute_many(_INSERT_TIER, [(*_TIERS.values(tier), account_id, now) for tier in tiers])


def _version(row: Row) -> ProgramVersion:
    version, rules, tiers, actor, note, created_at = row
    return ProgramVersion(
        version, _rules(rules), msgspec.json.decode(tiers, type=tuple[Tier, ...]), actor, note, created_at
    )


@lru_cache(maxsize=1_024)
def _rules(text: str) -> Rules:
    """The rules of a version, which never change."""
    return msgspec.json.decode(text, type=Rules)
