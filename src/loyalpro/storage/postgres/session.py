"""A session of PostgreSQL in which no wait for the server is endless, and the settings that LoyalPro gives it.

The settings are made after connecting: a pooler refuses the start-up option that would make them, or drops it silently.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar, cast

import psycopg
from psycopg import pq
from psycopg.abc import PQGen
from psycopg.types.numeric import Int8Dumper

from loyalpro.kernel.errors import ConfigurationError, StoreUnavailable

RV = TypeVar("RV")

_CONNECT_LIMIT_S: Final = 5
_IDLE_IN_TRANSACTION: Final = "5s"
"""The longest time that a process which stops within a transaction keeps its locks. It is shorter than the time after which a
worker counts as dead. It does not limit a running statement, and between two statements of a transaction LoyalPro does no
slow work."""
_DISABLED_PLANS: Final = ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin", "material")
_PLANNER: Final = {
    **{f"enable_{plan}": "off" for plan in _DISABLED_PLANS},
    **{f"enable_{plan}": "on" for plan in ("indexscan", "indexonlyscan", "nestloop", "partition_pruning")},
    "jit": "off",
    "plan_cache_mode": "auto",
}
"""Every statement is written for an index, and stops early in the order of that index. Some tables fill and empty within a
second, so the statistics of the planner are always old, and one wrong plan reads and sorts a whole backlog for each claim.
`jit` is off because the disabled plans raise the estimated cost of every statement above the threshold for compiling."""
_MEANING: Final = {
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "client_min_messages": "warning",
    "DateStyle": "ISO, MDY",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "extra_float_digits": "1",
    "IntervalStyle": "postgres",
    "standard_conforming_strings": "on",
    "TimeZone": "UTC",
    "transform_null_equals": "off",
}
"""What decides how a statement and its result are read. A role, a database or a server may have other defaults."""
_SINCE: Final = {"idle_session_timeout": 140_000, "transaction_timeout": 170_000}
"""Settings that older servers do not have, with the first version that has them."""


@dataclass(frozen=True, slots=True)
class SessionKind:
    """What a session is for. None: no limit of time, and the server plans as it is configured."""

    statement_limit_s: int | None
    """The server cancels a statement that takes longer."""
    answer_limit_s: float | None
    """The client closes a session that gets no answer for so long. It is longer: the server says more precisely why."""
    has_planner_settings: bool = True


WORK: Final = SessionKind(statement_limit_s=10, answer_limit_s=12.0)
"""What callers and the engine wait for."""
UPKEEP: Final = SessionKind(statement_limit_s=60, answer_limit_s=65.0)
"""Periodic jobs, which no call waits for, and the start of a process."""
ADMINISTRATION: Final = SessionKind(statement_limit_s=None, answer_limit_s=None, has_planner_settings=False)
"""Migrations: the time that they take grows with the tables."""


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for a limited time. TCP has no such limit: the kernel of a frozen server acknowledges packets."""

    answer_limit_s: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server. Without an answer in time the session is closed: a late one would be read as another one."""
        try:
            return super().wait(gen, interval, self.answer_limit_s if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise

    @classmethod
    def open(cls, dsn: str, kind: SessionKind) -> Self:
        """Connect. `StoreUnavailable` when that fails or takes longer than some seconds."""
        try:
            session = cls.connect(
                dsn,
                autocommit=True,  # transactions are begun and ended by name
                cursor_factory=psycopg.RawCursor,  # placeholders as $1: long statements need no rewriting
                prepare_threshold=3,
                connect_timeout=_CONNECT_LIMIT_S,
                application_name="loyalpro",
                client_encoding="UTF8",
                keepalives_idle=5,
                keepalives_interval=3,
                keepalives_count=3,
                tcp_user_timeout=20_000,
            )
        except psycopg.OperationalError as error:
            raise StoreUnavailable(f"PostgreSQL cannot be reached ({_reason(error)}).") from None
        session.answer_limit_s = kind.answer_limit_s
        # One type for every integer: otherwise a statement is prepared once for each mix of large and small integers.
        session.adapters.register_dumper(int, Int8Dumper)
        return session


def settings(kind: SessionKind, *, read_only: bool, server_version: int) -> dict[str, str]:
    """The settings of a session. `lock_timeout` stays that of the role: an operator may want one.

    A migration may pause between two statements: it prints its steps, and a terminal may hold its output back.
    """
    wanted = {
        **_MEANING,
        **(_PLANNER if kind.has_planner_settings else {}),
        **({"default_transaction_read_only": "on"} if read_only else {}),
        "statement_timeout": f"{kind.statement_limit_s}s" if kind.statement_limit_s else "0",
        "idle_in_transaction_session_timeout": _IDLE_IN_TRANSACTION if kind.statement_limit_s else "0",
        "idle_session_timeout": "0",
        "transaction_timeout": "0",
    }
    return {name: value for name, value in wanted.items() if server_version >= _SINCE.get(name, 0)}


def apply(session: Session, wanted: Mapping[str, str]) -> None:
    """Make the settings, and check in the next transaction that they are in force. `ConfigurationError` when one is not."""
    made = _row(session, ", ".join(f"set_config('{name}', '{value}', false)" for name, value in wanted.items()))
    in_force = _row(session, ", ".join(f"current_setting('{name}')" for name in wanted))
    for name, was, now in zip(wanted, made, in_force, strict=True):
        if was != now:
            raise ConfigurationError(
                f"The setting {name} of a PostgreSQL session does not last: something between LoyalPro and PostgreSQL shares "
                "sessions. Connect directly, or through a pooler in session mode."
            )


def _row(session: Session, columns: str) -> tuple[Any, ...]:
    row = session.execute(cast("Any", f"SELECT {columns}"), prepare=False).fetchone()
    assert row is not None
    return row


def _reason(error: psycopg.Error) -> str:
    """The text of the driver, without the parts that may contain a password."""
    text = str(error).strip().splitlines()
    return text[-1].rpartition("FATAL:")[2].strip()[:200] if text else type(error).__name__
