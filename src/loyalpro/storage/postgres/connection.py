"""PostgreSQL through psycopg 3, synchronous: each connection belongs to one thread."""

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
_SILENCE_MS = 5_000
"""A process that stops within a transaction keeps its locks no longer than this: less than it takes to give up a worker. It
does not limit a statement, however long it runs, and between two of one transaction nothing of ours takes its time."""
logging.getLogger("psycopg").setLevel(logging.ERROR)  # its warnings are about pipelines that failed: we raise that
_QUOTED_OR_MARK = re.compile(r"'(?:[^']|'')*'|\?")
_ONE_ROW = re.compile(r" VALUES (\([^()]*\))$")
_PIECES = (64, 8, 1)
"""Few sizes, so that each statement is prepared once; in large pieces, because each costs as much as a row or more."""
_PLANS = ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin", "material")
_BY_INDEX = " ".join([*(f"-c enable_{plan}=off" for plan in _PLANS), "-c jit=off"])
"""Every statement of ours is written for an index, in whose order it stops early. What the planner believes of tables
that fill and empty within a second is always old, and one backlog read and sorted for each claim is all that it takes.
`jit` is off because the penalties of the others make every statement look worth compiling."""
_BEGIN: Statement = ("BEGIN", ())
_SAVEPOINT: Statement = ("SAVEPOINT part", ())
_UNDO: Statement = ("ROLLBACK TO SAVEPOINT part", ())
_RELEASE: Statement = ("RELEASE SAVEPOINT part", ())
_SESSION_OVER = (errors.IdleInTransactionSessionTimeout, errors.IdleSessionTimeout)
"""The server has ended a session that stood still, and undone its transaction."""
_NO_WRITES = "PostgreSQL takes no writes at the moment (is it a standby?); nothing was written. Repeat it in a moment."
_LOCK_TAKEN = "Another transaction holds a lock that this one needs; nothing was written. Repeat it in a moment."
_NOT_WRITTEN = "The database is not reachable; nothing was written. Repeat it in a moment."


class PostgresConnection:
    """Satisfies `DriverConnection`.

    What nothing is asked of waits, and goes out with the next statement of which something is: one way to the server and
    back for all of them.
    """

    dialect = POSTGRES

    def __init__(self, dsn: str, *, read_only: bool) -> None:
        self._waiting: list[Statement] = []
        try:
            self._session = psycopg.connect(
                dsn,
                autocommit=True,  # transactions are begun and ended by name
                cursor_factory=psycopg.RawCursor,  # the server's own placeholders: long statements need no rewriting
                prepare_threshold=3,
                connect_timeout=5,
                application_name="loyalpro",
                keepalives_idle=5,
                keepalives_interval=3,
                keepalives_count=3,
                tcp_user_timeout=20_000,
                options=f"{_BY_INDEX} -c statement_timeout={_STATEMENT_TIMEOUT_MS}"
                f" -c idle_in_transaction_session_timeout={_SILENCE_MS}"
                + (" -c default_transaction_read_only=on" if read_only else ""),
            )
        except psycopg.OperationalError as error:
            raise StoreUnavailable(f"PostgreSQL cannot be reached ({_reason(error)}).") from None
        # One type for every integer: otherwise a statement is prepared anew for each mix of large and small ones.
        self._session.adapters.register_dumper(int, Int8Dumper)
        try:
            self._refuse_unsafe()
            if not read_only:
                self._refuse_standby()
        except BaseException:
            self.close()
            raise

    def _refuse_unsafe(self) -> None:
        """A commit that is acknowledged must survive a power cut."""
        if self._session.info.server_version < _OLDEST_VERSION:
            raise ConfigurationError("PostgreSQL 13 or newer is needed.")
        for setting in ("synchronous_commit", "fsync", "full_page_writes"):
            [(value,)] = self.execute(f"SHOW {setting}")
            if value == "off":
                raise ConfigurationError(
                    f"PostgreSQL runs with {setting}=off, so it can lose what it has acknowledged. Set {setting}=on."
                )

    def _refuse_standby(self) -> None:
        """It may have been the primary a moment ago, or have been told to take no writes: that passes."""
        if self.execute("SHOW transaction_read_only") == [("on",)]:
            raise StoreUnavailable(_NO_WRITES)

    def begin(self) -> None:
        """Open a transaction; each statement in it sees what is committed by then."""
        self._waiting.append(_BEGIN)

    def savepoint(self) -> None:
        """A subtransaction."""
        self._waiting.append(_SAVEPOINT)

    def release(self) -> None:
        """It stays."""
        self._waiting.append(_RELEASE)

    def undo(self) -> None:
        """It is as if it had not been: what of it still waits is not even sent."""
        if _SAVEPOINT in self._waiting:
            del self._waiting[self._waiting.index(_SAVEPOINT) :]
        else:
            self._waiting = [_UNDO, _RELEASE]

    def flush(self) -> None:
        """Send what waits, and hear what became of it."""
        self._run_all([])

    def commit(self) -> None:
        """Durable when this returns; when the answer is lost, nobody knows."""
        self.flush()
        try:
            self._session.execute("COMMIT")
        except (errors.SerializationFailure, errors.DeadlockDetected) as error:
            raise RetryTransaction from error
        except _SESSION_OVER:
            raise StoreUnavailable(_NOT_WRITTEN) from None
        except psycopg.OperationalError:
            raise CommitUnknown(
                "The connection broke while the change was being committed: it may or may not be there. Repeat it with "
                "the same Idempotency-Key; it takes effect once."
            ) from None

    def rollback(self) -> None:
        """Undo; a broken connection undoes by itself."""
        self._waiting.clear()
        if self._session.info.transaction_status != pq.TransactionStatus.IDLE:
            with contextlib.suppress(psycopg.Error):
                self._session.execute("ROLLBACK")

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(psycopg.Error):
            self._session.close()

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Run one statement."""
        [cursor] = self._run_all([(sql, params)])
        return cursor.fetchall() if cursor.description else []

    def execute_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Send all of them before the first is answered."""
        return [cursor.fetchall() if cursor.description else [] for cursor in self._run_all(statements)]

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Have one statement wait for each row; an INSERT takes many rows at a time."""
        start = 0
        for size in _PIECES if _ONE_ROW.search(sql) else (1,):
            text, end = repeated(sql, size), start + (len(rows) - start) // size * size
            self._waiting += [(text, _flat(rows[at : at + size])) for at in range(start, end, size)]
            start = end

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement; the rows it changed."""
        [cursor] = self._run_all([(sql, params)])
        return cursor.rowcount

    def run_script(self, sql: str) -> None:
        """Run a migration."""
        self.flush()
        with _translated():
            self._session.execute(cast("Any", sql), prepare=False)  # no parameters: several statements are allowed

    def _run_all(self, asked: Sequence[Statement]) -> list[psycopg.Cursor[Row]]:
        """Run what waits, and then these. For one statement alone a pipeline would be a detour."""
        statements, self._waiting = [*self._waiting, *asked], []
        if len(statements) > 1:
            with _translated(), self._session.pipeline():
                cursors = [self._run(sql, params) for sql, params in statements]
        else:
            with _translated():
                cursors = [self._run(sql, params) for sql, params in statements]
        return cursors[len(cursors) - len(asked) :]

    def _run(self, sql: str, params: Sequence[object]) -> psycopg.Cursor[Row]:
        return self._session.execute(cast("Any", numbered(sql)), params)


@lru_cache(maxsize=1_000)
def repeated(sql: str, rows: int) -> str:
    """An INSERT of one row, made to take so many."""
    return sql if rows == 1 else _ONE_ROW.sub(lambda found: f" VALUES {marks(rows, found[1])}", sql)


@lru_cache(maxsize=1_000)
def numbered(sql: str) -> str:
    """`?` becomes `$1`, `$2` ...; what stands in quotes keeps its question marks."""
    numbers = itertools.count(1)
    return _QUOTED_OR_MARK.sub(lambda found: f"${next(numbers)}" if found[0] == "?" else found[0], sql)


def _flat(rows: Sequence[Sequence[object]]) -> Sequence[object]:
    return rows[0] if len(rows) == 1 else [value for row in rows for value in row]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """PostgreSQL's errors that are about the machine become ours; those about our SQL stay what they are: mistakes."""
    try:
        yield
    except (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation) as error:
        # A unique row appeared between our look and our write: the next try sees it and decides by it.
        raise RetryTransaction from error
    except (errors.DiskFull, errors.OutOfMemory) as error:
        raise DiskFull("The database has no room left; nothing was written. Writing resumes by itself.") from error
    except errors.LockNotAvailable as error:
        raise LockTaken(_LOCK_TAKEN) from error
    except errors.QueryCanceled:
        raise StoreUnavailable("The database took too long; nothing was written. Repeat it in a moment.") from None
    except errors.ReadOnlySqlTransaction:
        raise StoreUnavailable(_NO_WRITES) from None
    except (psycopg.OperationalError, psycopg.InterfaceError, *_SESSION_OVER):
        raise StoreUnavailable(_NOT_WRITTEN) from None


def _reason(error: psycopg.Error) -> str:
    """What the driver says, without what may hold a password."""
    text = str(error).strip().splitlines()
    return text[-1].rpartition("FATAL:")[2].strip()[:200] if text else type(error).__name__
