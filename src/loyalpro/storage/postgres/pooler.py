"""Finds out whether a pooler gives each session a backend of its own, as PostgreSQL does.

A pooler in transaction mode gives every transaction whichever backend is free. The settings of a session then apply to the
transactions of others, and prepared statements are missing: most statements fail, and the others run without their limits.
"""

from typing import Any, Final

import psycopg
from psycopg import errors

from loyalpro.kernel.errors import ConfigurationError, StoreUnavailable
from loyalpro.storage.postgres.session import WORK, Session

SHARED: Final = (
    "The pooler in front of PostgreSQL shares sessions (transaction or statement mode), and LoyalPro needs to keep its own. "
    "Set pool_mode=session for this database, or connect directly to PostgreSQL."
)
_NO_BACKEND: Final = (
    f"PostgreSQL did not answer within {WORK.answer_limit_s:g} seconds. Is it overloaded, or the pool of a pooler too small? "
    "Each LoyalPro process needs up to 9 sessions, and 2 more when it starts."
)
_ROUNDS: Final = 3
"""Another process can take the free backend in between, which hides the pooler from one round."""


def require_own_sessions(dsn: str) -> None:
    """`ConfigurationError` when a session does not keep its backend, `StoreUnavailable` when there is no backend for it."""
    try:
        with Session.open(dsn, WORK) as first:
            backend = _backend(first)
            if backend == first.info.backend_pid:
                return  # the server itself announced this number: there is no pooler
            if any(_is_taken(dsn, first, backend) for _ in range(_ROUNDS)):
                raise ConfigurationError(SHARED)
    except psycopg.OperationalError:
        raise StoreUnavailable(_NO_BACKEND) from None


def _is_taken(dsn: str, first: Session, backend: int) -> bool:
    """Whether the idle first session loses its backend to a second one, which holds what it gets in a transaction."""
    with Session.open(dsn, WORK) as second:
        try:
            second.execute("BEGIN")
        except errors.ProtocolViolation:
            return True  # statement mode refuses transactions
        return _backend(second) == backend or _backend(first) != backend


def _backend(session: Session) -> int:
    row: Any = session.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    return int(row[0])
