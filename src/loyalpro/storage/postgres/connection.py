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

from loyalpro.kernel.errors import CommitUnknown, ConfigurationError, DiskFull, LockTaken, StoreUnavailable
from loyalpro.kernel.iteration import pull
from loyalpro.storage.connection import RetryTransaction, Row, Statement
from loyalpro.storage.dialect import POSTGRES
from loyalpro.storage.postgres import pooler, session
from loyalpro.storage.postgres.requirements import require_server
from loyalpro.storage.sql import marks

logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of failed pipelines, which raise an error as well
_QUOTED_OR_PLACEHOLDER = re.compile(r"'(?:[^']|'')*'|\?")
_ONE_ROW = re.compile(r" VALUES (\([^()]*\))(?=\s+ON CONFLICT\b|$)")
"""The row of an INSERT, at its end or in front of what is done about a row that exists."""
_CHUNK_SIZES = (64, 8, 1)
"""Rows in one INSERT. Few sizes, so that each statement is prepared once; large ones, because a statement costs as much as
a row or more."""
_BEGIN: Statement = ("BEGIN", ())
_SAVEPOINT: Statement = ("SAVEPOINT part", ())
_UNDO: Statement = ("ROLLBACK TO SAVEPOINT part", ())
_RELEASE: Statement = ("RELEASE SAVEPOINT part", ())
_PLAIN_WARNING = "01000"
_SESSION_OVER = (errors.IdleInTransactionSessionTimeout, errors.IdleSessionTimeout)
"""The server has ended an idle session and undone its transaction."""
_NO_WRITES = (
    "PostgreSQL accepts no writes at the moment (it is a standby, or default_transaction_read_only is on); nothing was "
    "written. Repeat it in a moment."
)
_COMMIT_UNKNOWN = (
    "The connection broke while the change was being committed: it may or may not have taken effect. Repeat it with the same "
    "Idempotency-Key; it takes effect once."
)
_NOT_REPLICATED = (
    "The standby did not confirm the change: it could be lost with the primary. Repeat it with the same Idempotency-Key; it "
    "takes effect once."
)
_LOCK_TAKEN = "Another transaction holds a lock that this one needs; nothing was written. Repeat it in a moment."
_NOT_WRITTEN = "The database is not reachable; nothing was written. Repeat it in a moment."


class PostgresConnection:
    """Satisfies `DriverConnection`.

    Statements that return nothing are deferred and sent in a pipeline with the next statement that returns something: one
    round trip for all of them.
    """

    dialect = POSTGRES

    def __init__(self, dsn: str, *, read_only: bool, kind: session.SessionKind = session.WORK) -> None:
        self._deferred: list[Statement] = []
        self._is_replicated = True
        self._session = session.Session.open(dsn, kind)
        self._session.add_notice_handler(self._noticed)
        try:
            version = self._session.info.server_version
            with _translated():
                session.apply(self._session, session.settings(kind, read_only=read_only, server_version=version))
            self._backend = require_server(self).backend
            if not read_only:
                self._refuse_standby()
        except BaseException:
            self.close()
            raise

    def _refuse_standby(self) -> None:
        """`StoreUnavailable` for a server that accepts no writes. It may be a former primary, so the next try can succeed."""
        if self.execute("SHOW transaction_read_only") == [("on",)]:
            raise StoreUnavailable(_NO_WRITES)

    def _noticed(self, notice: errors.Diagnostic) -> None:
        """A warning without a code of its own at a commit: the wait for the synchronous standby was cut short."""
        if notice.sqlstate == _PLAIN_WARNING:
            self._is_replicated = False

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
        self._is_replicated = True
        try:
            self._session.execute("COMMIT")
        except (errors.SerializationFailure, errors.DeadlockDetected) as error:
            raise RetryTransaction from error
        except _SESSION_OVER:
            raise StoreUnavailable(_NOT_WRITTEN) from None
        except psycopg.OperationalError:
            raise CommitUnknown(_COMMIT_UNKNOWN) from None
        if not self._is_replicated:
            raise CommitUnknown(_NOT_REPLICATED)

    def rollback(self) -> None:
        """Undo the transaction. On a broken connection the server does so."""
        self._deferred.clear()
        if self._session.info.transaction_status != pq.TransactionStatus.IDLE:
            with contextlib.suppress(psycopg.Error):
                self._session.execute("ROLLBACK")

    def check(self) -> None:
        """Run a short statement. `ConfigurationError` when another backend of the server answers it: a pooler shares them."""
        if self.execute("SELECT pg_backend_pid()") != [(self._backend,)]:
            raise ConfigurationError(pooler.SHARED)

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
        """Defer one statement for each row. An INSERT of one row is rewritten to take up to 64 rows.

        With `ON CONFLICT ... DO UPDATE`, no two of the rows may have one key: a statement does not update a row twice.
        """
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
    return _QUOTED_OR_PLACEHOLDER.sub(lambda found: f"${pull(numbers)}" if found[0] == "?" else found[0], sql)


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
