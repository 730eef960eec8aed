"""How a package runs its work in a database transaction without knowing the database."""

from collections.abc import Callable
from typing import Final, Literal, Protocol, TypeVar

T = TypeVar("T")
U_co = TypeVar("U_co", covariant=True)

WriterName = Literal["ingest", "bulk", "control", "delivery", "upkeep"]
"""Which writer commits a change. PostgreSQL has several connections, so that few wait for others; SQLite has one for all.

`ingest`: what callers send; it is refused while disk space is short. `bulk`: pieces of imports; they are refused with it, and
share the connection of `upkeep`. `control`: what stops work or frees space; it shares the connection of `ingest`, and is not
refused with it. `delivery`: the engine and its jobs. `upkeep`: jobs that may wait for a table lock.
"""

NEW_DATA: Final[frozenset[WriterName]] = frozenset({"ingest", "bulk"})
"""What is refused while disk space is short."""
ALONE: Final[frozenset[WriterName]] = frozenset({"bulk", "upkeep"})
"""What never shares a transaction with the changes of callers, who would have to wait for it."""

SYSTEM: Final = "system"
"""The actor of a change without a request, such as one of a periodic job.

The actor of a change is `key:<id of an API key>`, `person:<id>`, `cli` for a command of the operator, `system`, or
`system:<part>`.
"""


class UnitOfWorkRunner(Protocol[U_co]):
    """Runs functions of a unit of work, each in one database transaction of its own."""

    async def change(self, work: Callable[[U_co], T], writer: WriterName = "ingest", *, actor: str = SYSTEM) -> T:
        """Commit what `work` changes together with the events that it emits; its result, once that is durable.

        `actor`: who makes the changes. Raises what `work` raises, and then nothing of it is committed.
        """
        ...

    async def read(self, work: Callable[[U_co], T]) -> T:
        """Run `work` on a connection that cannot write; it sees one state of the database throughout."""
        ...

    async def lookup(self, work: Callable[[U_co], T]) -> T:
        """`read`, for `work` of one statement that finds rows by their keys and runs with every request."""
        ...
