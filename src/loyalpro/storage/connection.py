"""The interface between tables and databases: a few operations that SQLite and PostgreSQL both have.

The tables write their SQL once, in the subset that both databases accept: `?` placeholders, `RETURNING`, `ON CONFLICT`,
integers for instants (Unix milliseconds) and flags, TEXT for ids and JSON, BLOB/BYTEA for the bytes that are sent.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.dialect import Dialect

T = TypeVar("T")
Row = tuple[Any, ...]
Statement = tuple[str, Sequence[object]]
"""A statement and its parameters."""


def run_work(work: "Callable[[Connection], T]", connection: "Connection") -> T:
    """The result of `work`. A `StopIteration` becomes a `RuntimeError`.

    `asyncio.Future.set_exception` refuses a `StopIteration`, so the caller that waits for the result would never resume.
    """
    try:
        return work(connection)
    except StopIteration as error:
        raise RuntimeError("The work raised StopIteration.") from error


class Connection(Protocol):
    """One connection, inside one transaction. Used by one thread at a time."""

    @property
    def dialect(self) -> Dialect:
        """What differs in the SQL of this database."""
        ...

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return its rows (empty when it returns none)."""
        ...

    def execute_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Run statements that do not depend on each other's rows, in one round trip; the rows of each."""
        ...

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement once for each row of parameters.

        It returns nothing, so a connection may send it together with the next statement. Its error is then raised there, or
        by `flush`.
        """
        ...

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement; the number of rows that it changed."""
        ...

    def run_script(self, sql: str) -> None:
        """Run the statements of a migration."""
        ...


class DriverConnection(Connection, Protocol):
    """A connection with control over its transactions, for writers and readers."""

    def begin(self) -> None:
        """Begin a transaction."""
        ...

    def savepoint(self) -> None:
        """Begin a part of the transaction that can be undone by itself. Parts do not nest."""
        ...

    def release(self) -> None:
        """End the part and keep it. It has to be flushed before."""
        ...

    def undo(self) -> None:
        """End the part and undo it."""
        ...

    def flush(self) -> None:
        """Return when every statement so far has run, or raise the error of the first that failed."""
        ...

    def commit(self) -> None:
        """Commit; durable when this returns. `CommitUnknown` when the connection broke before the answer arrived."""
        ...

    def rollback(self) -> None:
        """Undo the transaction; never raises."""
        ...

    def check(self) -> None:
        """Run a short statement outside of a transaction; `StoreError` when the database does not answer it."""
        ...

    def close(self) -> None:
        """Close the connection; never raises."""
        ...


class RetryTransaction(Exception):
    """The database undid the transaction because of a conflict with another one, such as a deadlock. It can run again."""


def server_now(connection: Connection, now: UnixMs) -> UnixMs:
    """The time that all processes agree on: that of the database server, because the clocks of hosts differ.

    `now`, the time of this process, where the process has the only clock.
    """
    query = connection.dialect.server_now
    if query is None:
        return now
    [(shared,)] = connection.execute(query)
    return int(shared)


def limit_lock_waits(connection: Connection, limit_ms: int | None) -> None:
    """Let later statements of this transaction wait at most so long for a lock, and raise LockTaken after it.

    None: as long as usual; 0: without a limit. On SQLite no statement waits for a row, so there is nothing to limit.
    """
    statement = connection.dialect.lock_timeout
    if statement is not None:
        connection.execute(statement.format(limit="DEFAULT" if limit_ms is None else limit_ms))
