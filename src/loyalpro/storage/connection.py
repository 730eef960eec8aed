"""What the tables need of a database: a few verbs that SQLite and PostgreSQL both have.

SQL above this line is written once, in the subset both take: `?` placeholders, `RETURNING`, `ON CONFLICT`, integers for
instants (Unix milliseconds) and flags, TEXT for ids and JSON, BLOB/BYTEA for frozen bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

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
        """Which database this is, for the few statements that differ."""
        ...

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return its rows (empty when it returns none)."""
        ...

    def execute_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Run statements of which none needs what another returns, in one round trip; the rows of each."""
        ...

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement once for each row of parameters.

        Nothing is asked back, so it may go out with the next statement, and fail there, or in `flush`.
        """
        ...

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement and return how many rows it changed."""
        ...

    def run_script(self, sql: str) -> None:
        """Run the statements of a migration."""
        ...


class DriverConnection(Connection, Protocol):
    """A connection together with its transactions: what a writer and a reader hold."""

    def begin(self) -> None:
        """Open a transaction."""
        ...

    def savepoint(self) -> None:
        """Begin a part of the transaction that may be undone by itself. There is one at a time."""
        ...

    def release(self) -> None:
        """Make that part belong to the whole; it must have been flushed."""
        ...

    def undo(self) -> None:
        """Take that part back, and go on as if it had not begun."""
        ...

    def flush(self) -> None:
        """Everything so far has been done when this returns, or it raises what was wrong with it."""
        ...

    def commit(self) -> None:
        """Durable when this returns. `CommitUnknown` when the answer was lost on the way."""
        ...

    def rollback(self) -> None:
        """Undo the transaction; never raises."""
        ...

    def close(self) -> None:
        """Give the connection back to the system; never raises."""
        ...


class RetryTransaction(Exception):
    """The database undid the transaction to untangle it from another (a deadlock, say). Running it again is safe."""
