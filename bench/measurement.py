"""The result of a measurement, and the size of its load."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.stage import Stage


@dataclass(frozen=True)
class Goal:
    """One row of the table of goals. `reached` is None where this run cannot decide it."""

    what: str
    goal: str
    measured: str
    reached: bool | None


@dataclass(frozen=True)
class Finding:
    """The result: rows for the table of goals, and the details in Markdown."""

    goals: Sequence[Goal]
    details: str


@dataclass(frozen=True)
class Scale:
    """The size of each load. The defaults decide the goals."""

    rounds: int = 3
    purchases: int = 5_000
    buyers: int = 300
    backlog: int = 20_000
    latency_s: float = 5
    endpoints: int = 1_000
    before_s: float = 15
    hanging_s: float = 50
    hot_backlog: int = 50_000
    hot_s: float = 4
    pending_postgres: int = 10_000_000
    pending_sqlite: int = 10_000_000
    attempts: int = 10_000_000
    claims: int = 200
    growth_rounds: int = 2
    growth_backlog: int = 6_000
    kills: int = 5
    kill_every_s: float = 10
    outage_backlog: int = 4_000
    memory_s: float = 3_600
    memory_per_s: int = 1_000
    imported: int = 1_000_000
    program_purchases: int = 1_000_000
    program_customers: int = 50_000
    program_quiet_s: float = 60

    @property
    def small(self) -> bool:
        """Whether less is measured than the goals name."""
        return self.pending_postgres < Scale.pending_postgres


QUICK = Scale(
    rounds=1,
    purchases=500,
    buyers=50,
    backlog=1_000,
    latency_s=1,
    endpoints=60,
    before_s=1,
    hanging_s=2,
    hot_backlog=2_500,
    hot_s=1,
    pending_postgres=20_000,
    pending_sqlite=20_000,
    attempts=10_000,
    claims=20,
    growth_rounds=1,
    growth_backlog=1_000,
    kills=1,
    kill_every_s=2,
    outage_backlog=200,
    memory_s=3,
    memory_per_s=500,
    imported=10_000,
    program_purchases=20_000,
    program_customers=1_000,
    program_quiet_s=5,
)


@dataclass(frozen=True)
class Measurement:
    """One measurement that `--only` can name. A long one runs only when it is named."""

    name: str
    title: str
    measure: Callable[[Stage, Scale], Finding]
    long: bool = False
