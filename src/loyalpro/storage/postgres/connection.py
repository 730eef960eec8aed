"""A connection to PostgreSQL through psycopg 3. It is synchronous, and one thread uses it at a time."""

import contextlib
import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, cast

import psycopg
from psycopg import errors, pq
from psycopg.types.numeric import Int8Dumper

from loyalpro.kernel.errors import CommitUnknown, ConfigurationError, DiskFull, LockTaken, StoreUnavailable
from loyalpro.storage.connection import RetryTransaction, Row, Statement
from loyalpro.storage.dialect import POSTGRES
from loyalpro.storage.sql import marks

_OLDEST_VERSION = 130_000
_STATEMENT_TIMEOUT_MS = 60_000
_IDLE_IN_TRANSACTION_MS = 5_000
"""The longest time that a process which stops within a transaction keeps its locks. It is shorter than the time after which a
worker counts as dead. It does not limit a running statement, and between two statements of a transaction LoyalPro does no
slow work."""
logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of failed pipelines, which raise an error as well
_QUOTED_OR_PLACEHOLDER = re.compile(r"'(?:[^']|'')*'|\?")
_ONE_ROW = re.compile(r" VALUES (\([^()]*\))$")
_CHUNK_SIZES = (64, 8, 1)
"""Rows in one INSERT. Few sizes, so that each statement is prepared once; large ones, because a statement costs as much as
a row or more."""
_DISABLED_PLANS = ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin", "material")
_PLANNER_OPTIONS = " ".join([*(f"-c enable_{plan}=off" for plan in _DISABLED_PLANS), "-c jit=off"])
"""Every statement is written for an index, and stops early in the order of that index. Some tables fill and empty within a
second, so the statistics of the planner are always old, and one wrong plan reads and sorts a whole backlog for each claim.
`jit` is off because the disabled plans raise the estimated cost of every statement above the threshold for compiling."""
_BEGIN: Statement = ("BEGIN", ())
_SAVEPOINT: Statement = ("SAVEPOINT part", ())
_UNDO: Statement = ("ROLLBACK TO SAVEPOINT part", ())
_RELEASE: Statement = ("RELEASE SAVEPOINT part", ())
_SESSION_OVER = (errors.IdleInTransactionSessionTimeout, errors.IdleSessionTimeout)
"""The server has ended an idle session and undone its transaction."""
_NO_WRITES = (
    "PostgreSQL accepts no writes at the moment (is it a standby?); nothing was written. Repeat it in a moment."
)
_LOCK_TAKEN = "Another transaction holds a lock that this one needs; nothing was written. Repeat it in a moment."
_NOT_WRITTEN = "The database is not reachable; nothing was written. Repeat it in a moment."


class PostgresConnection:
    """Satisfies `DriverConnection`.

    Statements that return nothing are deferred and sent in a pipeline with the next statement that returns something: one
    round trip for all of them.
    """

    dialect = POSTGRES

    def __init__(self, dsn: str, *, read_only: bool) -> None:
        self._deferred: list[Statement] = []
        try:
            self._session = psycopg.connect(
                dsn,
                autocommit=True,  # transactions are begun and ended by name
                cursor_factory=psycopg.RawCursor,  # placeholders as $1: long statements need no rewriting
                prepare_threshold=3,
                connect_timeout=5,
                application_name="loyalpro",
                keepalives_idle=5,
                keepalives_interval=3,
                keepalives_count=3,
                tcp_user_timeout=20_000,
                options=f"{_PLANNER_OPTIONS} -c statement_timeout={_STATEMENT_TIMEOUT_MS}"
                f" -c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_MS}"
                + (" -c default_transaction_read_only=on" if read_only else ""),
            )
        except psycopg.OperationalError as error:
            raise StoreUnavailable(f"PostgreSQL cannot be reached ({_reason(error)}).") from None
        # One type for every integer: otherwise a statement is prepared once for each mix of large and small integers.
        self._session.adapters.register_dumper(int, Int8Dumper)
        try:
            self._refuse_unsafe()
            if not read_only:
                self._refuse_standby()
        except BaseException:
            self.close()
            raise

    def _refuse_unsafe(self) -> None:
        """`ConfigurationError` when an acknowledged commit would not survive a power failure."""
        if self._session.info.server_version < _OLDEST_VERSION:
            raise ConfigurationError("LoyalPro needs PostgreSQL 13 or newer.")
        for setting in ("synchronous_commit", "fsync", "full_page_writes"):
            [(value,)] = self.execute(f"SHOW {setting}")
            if value == "off":
                raise ConfigurationError(
                    f"PostgreSQL runs with {setting}=off, so it can lose commits that it has acknowledged. Set {setting}=on."
                )

    def _refuse_standby(self) -> None:
        """`StoreUnavailable` for a server that accepts no writes. It may be a former primary, so the next try can succeed."""
        if self.execute("SHOW transaction_read_only") == [("on",)]:
            raise StoreUnavailable(_NO_WRITES)

    def begin(self) -> None:
        """Begin a transaction. Each of its statements sees what was committed before that statement."""
        self._deferred.append(_BEGIN)

    def savepoint(self) -> None:
        """Begin a part of the transaction."""
        self._deferred.append(_SAVEPOINT)

    def release(self) -> None:
        """End the part and keep it."""
        self._deferred.append(_RELEASE)

    def undo(self) -> None:
        """End the part and undo it. Its deferred statements are never sent."""
        if _SAVEPOINT in self._deferred:
            del self._deferred[self._deferred.index(_SAVEPOINT) :]
        else:
            self._deferred = [_UNDO, _RELEASE]

    def flush(self) -> None:
        """Send the deferred statements, and raise the error of the first that failed."""
        self._run_all([])

    def commit(self) -> None:
        """Commit; durable when this returns. `CommitUnknown` when the connection broke before the answer arrived."""
        self.flush()
        try:
            self._session.execute("COMMIT")
        except (errors.SerializationFailure, errors.DeadlockDetected) as error:
            raise RetryTransaction from error
        except _SESSION_OVER:
            raise StoreUnavailable(_NOT_WRITTEN) from None
        except psycopg.OperationalError:
            raise CommitUnknown(
                "The connection broke while the change was being committed: it may or may not have taken effect. Repeat it "
                "with the same Idempotency-Key; it takes effect once."
            ) from None

    def rollback(self) -> None:
        """Undo the transaction. On a broken connection the server does so."""
        self._deferred.clear()
        if self._session.info.transaction_status != pq.TransactionStatus.IDLE:
            with contextlib.suppress(psycopg.Error):
                self._session.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(psycopg.Error):
            self._session.close()

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Run one statement."""
        [cursor] = self._run_all([(sql, params)])
        return cursor.fetchall() if cursor.description else []

    def execute_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Send all statements before the first result arrives."""
        return [cursor.fetchall() if cursor.description else [] for cursor in self._run_all(statements)]

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Defer one statement for each row. An INSERT of one row is rewritten to take up to 64 rows."""
        start = 0
        for size in _CHUNK_SIZES if _ONE_ROW.search(sql) else (1,):
            text, end = repeated(sql, size), start + (len(rows) - start) // size * size
            self._deferred += [(text, _flat(rows[at : at + size])) for at in range(start, end, size)]
            start = end

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement; the number of rows that it changed."""
        [cursor] = self._run_all([(sql, params)])
        return cursor.rowcount

    def run_script(self, sql: str) -> None:
        """Run the statements of a migration."""
        self.flush()
        with _translated():
            self._session.execute(cast("Any", sql), prepare=False)  # no parameters: several statements are allowed

    def _run_all(self, requested: Sequence[Statement]) -> list[psycopg.Cursor[Row]]:
        """Run the deferred statements, then these; the cursors of these. A pipeline for one statement would only add cost."""
        statements, self._deferred = [*self._deferred, *requested], []
        if len(statements) > 1:
            with _translated(), self._session.pipeline():
                cursors = [self._run(sql, params) for sql, params in statements]
        else:
            with _translated():
                cursors = [self._run(sql, params) for sql, params in statements]
        return cursors[len(cursors) - len(requested) :]

    def _run(self, sql: str, params: Sequence[object]) -> psycopg.Cursor[Row]:
        return self._session.execute(cast("Any", numbered(sql)), params)


@lru_cache(maxsize=1_000)
def repeated(sql: str, rows: int) -> str:
    """An INSERT of one row, rewritten to take `rows` rows."""
    return sql if rows == 1 else _ONE_ROW.sub(lambda found: f" VALUES {marks(rows, found[1])}", sql)


@lru_cache(maxsize=1_000)
def numbered(sql: str) -> str:
    """The statement with `$1`, `$2` ... for each `?`. Question marks in quoted text stay."""
    numbers = itertools.count(1)
    return _QUOTED_OR_PLACEHOLDER.sub(lambda found: f"${next(numbers)}" if found[0] == "?" else found[0], sql)


def _flat(rows: Sequence[Sequence[object]]) -> Sequence[object]:
    return rows[0] if len(rows) == 1 else [value for row in rows for value in row]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise the errors of LoyalPro for conflicts and for errors of the machine. Errors in the SQL itself are bugs and stay."""
    try:
        yield
    except (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation) as error:
        # Another transaction inserted the unique row after this one had looked for it. The next try sees the row.
        raise RetryTransaction from error
    except (errors.DiskFull, errors.OutOfMemory) as error:
        raise DiskFull("The disk of the database is full; nothing was written. Writing resumes by itself.") from error
    except errors.LockNotAvailable as error:
        raise LockTaken(_LOCK_TAKEN) from error
    except errors.QueryCanceled:
        raise StoreUnavailable("The database took too long; nothing was written. Repeat it in a moment.") from None
    except errors.ReadOnlySqlTransaction:
        raise StoreUnavailable(_NO_WRITES) from None
    except (psycopg.OperationalError, psycopg.InterfaceError, *_SESSION_OVER):
        raise StoreUnavailable(_NOT_WRITTEN) from None


def _reason(error: psycopg.Error) -> str:
    """The text of the driver, without the parts that may contain a password."""
    text = str(error).strip().splitlines()
    return text[-1].rpartition("FATAL:")[2].strip()[:200] if text else type(error).__name__
