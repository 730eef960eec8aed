"""The database as the rest of the program holds it: functions of a connection go in, results come out."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import Dialect

T = TypeVar("T")


class Database(Protocol):
    """One of the two stores, opened."""

    @property
    def dialect(self) -> Dialect:
        """Which one it is."""
        ...

    @property
    def available(self) -> bool:
        """Whether writes can be taken now."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether this process has the database to itself: then every other worker that it knows is dead."""
        ...

    async def start(self) -> None:
        """Connect, refuse what is not safe, and check the version of the schema; an empty database is set up."""
        ...

    async def stop(self) -> None:
        """Finish what is queued and disconnect."""
        ...

    async def write(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` in a transaction; its result once that is durable. What it raises undoes it."""
        ...

    async def read(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` on a connection that cannot write. The readers of `delivery` are not those of API callers."""
        ...

    async def lookup(self, work: Callable[[Connection], T]) -> T:
        """`read`, for `work` of one statement that looks at rows by their keys and is asked for with every request."""
        ...
