"""The interface of a database: it runs functions of a connection, each in a transaction, and returns their results."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import Dialect

T = TypeVar("T")


class Database(Protocol):
    """A SQLite or PostgreSQL database. Its methods raise `StoreError` when the database fails."""

    @property
    def dialect(self) -> Dialect:
        """What differs in the SQL of this database."""
        ...

    @property
    def available(self) -> bool:
        """Whether the database accepts writes now: it is connected, and has not been silent for long."""
        ...

    @property
    def answered_s(self) -> float:
        """When the database last answered, on the monotonic clock. An idle process asks it every second."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether only one process at a time can open the database. All workers of other processes are then dead."""
        ...

    async def start(self) -> None:
        """Connect, check the settings and the version of the schema, and create the schema of an empty database."""
        ...

    async def stop(self) -> None:
        """Finish the queued writes and disconnect, within seconds even when the database does not answer."""
        ...

    async def write(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` in a transaction of a writer; its result once it is durable. An error that `work` raises undoes it."""
        ...

    async def read(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` on a connection that cannot write. `delivery` has readers of its own."""
        ...

    async def lookup(self, work: Callable[[Connection], T]) -> T:
        """`read`, for `work` of one statement that finds rows by their keys and runs with every request."""
        ...
