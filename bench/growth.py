"""How much faster two workers drain a backlog than one."""

import statistics
import time
from dataclasses import dataclass

from bench.measurement import Finding, Goal, Scale
from bench.receiver import Receiver
from bench.server import cpu_s
from bench.stage import Stage

_ENDPOINTS = 4
_CORES = 2


@dataclass(frozen=True)
class Drained:
    """Deliveries per second between the first tenth and the last, and the CPU time that each process used for one."""

    per_s: float
    worker_us: float
    receiver_us: float
    database_us: float | None

    @property
    def ceiling_per_s(self) -> float | None:
        """The most that two cores could deliver per second at this cost."""
        if self.database_us is None:
            return None
        return _CORES * 1e6 / (self.worker_us + self.receiver_us + self.database_us)


def growth(stage: Stage, scale: Scale) -> Finding:
    """On PostgreSQL only: on SQLite one process does everything."""
    if "postgres" not in stage.stores:
        return Finding([], "Needs PostgreSQL: on SQLite one process does everything.\n")
    ones, twos = [], []
    for _ in range(scale.growth_rounds):
        ones.append(_drained(stage, 1, scale.growth_backlog))
        twos.append(_drained(stage, 2, scale.growth_backlog))
    ratio = statistics.median(two.per_s / one.per_s for one, two in zip(ones, twos, strict=True))
    goal = Goal("growth, two workers", "on two cores at least 1.7x one", f"{ratio:.2f}x; {_limit(ones)}", ratio >= 1.7)
    rows = [f"| 1 | {_row(each)} |" for each in ones] + [f"| 2 | {_row(each)} |" for each in twos]
    return Finding([goal], _INTRO + "\n".join(rows) + "\n")


_INTRO = f"""{_ENDPOINTS} endpoints at one receiver, delivery alone. The workers share the machine's cores with PostgreSQL and the receiver:
when those leave less than a core for the second worker, the ratio stays below 2 whatever the workers do. The last column
is the most that {_CORES} cores could deliver without any idle time, at the CPU time that all processes used for a delivery in that round.

| workers | deliveries/s | worker CPU, us each | PostgreSQL CPU, us each | receiver CPU, us each | two cores at most, deliveries/s |
|---|---|---|---|---|---|
"""


def _drained(stage: Stage, workers: int, backlog: int) -> Drained:
    stage.report(f"{workers} workers")
    url, receiver = stage.database("postgres"), stage.receiver(remembers=False)
    with stage.past(url) as past:
        past.endpoints(past.account_id, [receiver.url] * _ENDPOINTS, status="paused")
        past.events(past.account_id, backlog // _ENDPOINTS)
        running = [stage.work(url) for _ in range(workers)]
        past.enable_all()
    pids = [each.pid for each in running]
    begin, end = _sample(stage, receiver, pids, backlog // 10), _sample(stage, receiver, pids, backlog * 9 // 10)
    for each in running:
        each.kill()
    count = end.count - begin.count
    database_us = None if end.database_s is None else (end.database_s - (begin.database_s or 0)) / count * 1e6
    return Drained(
        count / (end.at_s - begin.at_s),
        (end.workers_s - begin.workers_s) / count * 1e6,
        (end.receiver_s - begin.receiver_s) / count * 1e6,
        database_us,
    )


@dataclass(frozen=True)
class _Sample:
    count: int
    at_s: float
    workers_s: float
    receiver_s: float
    database_s: float | None


def _sample(stage: Stage, receiver: Receiver, pids: list[int], count: int) -> _Sample:
    """The counters as soon as this number of deliveries has arrived."""
    deadline_s = time.monotonic() + 300
    while (arrived := receiver.count()) < count:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"only {arrived} of {count} deliveries arrived")
        time.sleep(0.01)
    return _Sample(arrived, time.perf_counter(), sum(map(cpu_s, pids)), cpu_s(receiver.pid), stage.database_cpu_s())


def _limit(ones: list[Drained]) -> str:
    ceilings = [one.ceiling_per_s / one.per_s for one in ones if one.ceiling_per_s is not None]
    if not ceilings:
        return "the limit is unknown: the database runs elsewhere"
    return f"with PostgreSQL and the receiver on the same two cores at most {statistics.median(ceilings):.2f}x"


def _row(one: Drained) -> str:
    known = one.database_us is not None
    database, ceiling = (f"{one.database_us:,.0f}", f"{one.ceiling_per_s:,.0f}") if known else ("", "")
    return f"{one.per_s:,.0f} | {one.worker_us:,.0f} | {database} | {one.receiver_us:,.0f} | {ceiling}"
