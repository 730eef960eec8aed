"""What a periodic job is: a kind that names it, an interval, and a function that does one bounded piece of its work."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner, WriterName

U = TypeVar("U")

BATCH_SIZE: Final = 200
"""How many rows one piece of a job changes at most, so that its transaction is short."""


@dataclass(frozen=True, slots=True, eq=False)
class JobKind:
    """Identifies a job. The package of the job defines it as a constant, and wakes the job with that constant.

    `name` labels the job in logs, in metrics and in the `job_runs` table.
    """

    name: str


@record
class Piece:
    """What one piece of a job did: how many `items` it changed, and whether there is `more` to do at once."""

    items: int
    more: bool = False


RunPiece = Callable[[UnixMs], Awaitable[Piece]]
"""Does one bounded piece of a job's work at the given time."""


@dataclass(frozen=True, slots=True)
class PeriodicJob:
    """A job that runs every `every_s` seconds, and sooner when it is woken.

    `run_piece` does one bounded piece of work, in short transactions. Several processes may run it
    at once, and a run may be interrupted anywhere: the next piece continues from the state of the database. Two jobs with one
    name are an error.
    """

    kind: JobKind
    every_s: float
    run_piece: RunPiece


def in_transaction(runner: UnitOfWorkRunner[U], work: Callable[[U], Piece], writer: WriterName) -> RunPiece:
    """A piece that is one function of a unit of work, in one database transaction."""

    async def run_piece(now: UnixMs) -> Piece:  # noqa: ARG001 - a unit of work has the time of its own transaction
        return await runner.change(work, writer)

    return run_piece


@record
class JobRun:
    """One run of a job in one process: all pieces from the first to the one after which nothing was left to do.

    `error` is None for a run that finished; else the error's code. `items` counts what all pieces changed.
    """

    job: str
    process: str
    started_at: UnixMs
    finished_at: UnixMs
    pieces: int
    items: int
    error: str | None = None


@record
class LastRun:
    """What is stored of a job: its last run, when a run last changed something, and how many items that run changed.

    `changed_at` and `changed_items` are None until a run has changed something.
    """

    run: JobRun
    changed_at: UnixMs | None
    changed_items: int | None
