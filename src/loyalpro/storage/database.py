"""The database as the rest of the program holds it: functions of a connection go in, results come out."""

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import Dialect

T = TypeVar("T")
Lane = Literal["ingest", "control", "delivery", "upkeep"]
"""Who is writing. On PostgreSQL each has a connection, so that deliveries are settled while purchases pour in, and
neither waits for the upkeep, which may wait for a lock. `control` is what owners do that stops work or frees room: it
shares the connection of what comes in, and is not refused with it when there is no room."""


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

    async def write(self, work: Callable[[Connection], T], lane: Lane = "ingest") -> T:
        """Run `work` in a transaction; its result once that is durable. What it raises undoes it."""
        ...

    async def read(self, work: Callable[[Connection], T], lane: Lane = "ingest") -> T:
        """Run `work` on a connection that cannot write; deliveries do not wait for what callers read."""
        ...

    async def lookup(self, work: Callable[[Connection], T]) -> T:
        """`read`, for `work` of one statement that looks at rows by their keys and is asked for with every request."""
        ...
