"""A large program: a million purchases are imported, and later a million lots expire at one instant, both beside live traffic.

The files go through `loyalpro import`, and the program's policy lets all points expire at the end of one day. A second server on
the same database has a clock that reaches that instant soon. So every row was written by the program itself. At last
`loyalpro doctor --ledger` derives everything again.
"""

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from bench.live_traffic import PER_S, LiveTraffic, Waits
from bench.measurement import Finding, Goal, Scale
from bench.memory import Memory, MemorySampler
from bench.purchase_files import PARTS, write_customers, write_purchases
from bench.server import Finished, Server
from bench.stage import Report, Stage
from loyalpro.cli.api_client import ApiClient
from loyalpro.kernel.clock import MS_PER_S, SystemClock, UnixMs
from loyalpro.loyalty.expiry import date_of, day_of, day_start
from loyalpro.storage.connection import DriverConnection
from loyalpro.storage.open import open_reader

_LEAST_RATIO = 0.8
_MOST_P99 = 3.0
_STARTING_MS = 30 * MS_PER_S
_POLL_S = 0.5
_LONGEST_S = 3_600
_PAGES_OF_BUYERS = 50
_DUE = "SELECT COUNT(*) FROM customers WHERE next_due_at <= ?"
_RUN = "SELECT started_at, finished_at, items FROM job_runs WHERE job = 'expiry' AND changed_at >= ? AND error IS NULL"
_LOTS = "SELECT COUNT(*), COALESCE(SUM(remaining), 0) FROM lots WHERE expires_at = ?"


@dataclass(frozen=True)
class Job:
    """A job beside live traffic: its rate in each tenth of the work and in all, the waits before it and beside it, the memory."""

    rates: Sequence[float]
    per_s: float
    took_s: float
    quiet: Waits
    beside: Waits
    memory: Memory

    @property
    def last_to_first(self) -> float:
        """The rate of the last tenth, as a multiple of that of the first."""
        return self.rates[-1] / self.rates[0]


@dataclass(frozen=True)
class Large:
    """What was measured on one database. `lots`, `customers`: how many expired, and of how many customers the job was."""

    store: str
    imports: Job
    expiry: Job
    lots: int
    customers: int
    check: Finished


def large_program(stage: Stage, scale: Scale, store: str) -> Finding:
    """On one database: the import, the expiry, and the check of the ledger."""
    if store not in stage.stores:
        return Finding([], f"Needs {store}.\n")
    load = os.getloadavg()[0]
    found = _measure(stage, store, scale)
    return Finding(_goals(found, scale), _INTRO.format(scale=scale, per_s=PER_S, load=load) + _tables(found))


def _measure(stage: Stage, store: str, scale: Scale) -> Large:
    show = stage.report
    url, now = stage.database(store), SystemClock().now_ms()
    last_day = day_of(now, "UTC") + 1
    due_at = day_start(last_day + 1, "UTC")
    show("writing the files", 0.0)
    people = write_customers(stage.folder / "customers.csv", scale.program_customers)
    files = write_purchases(stage.folder, scale.program_purchases, scale.program_customers, now)
    server = stage.serve(url)
    client = server.client()
    client.call("PUT", "/v1/churn/settings", {"enabled": False})
    client.call("PATCH", "/v1/program", {"expiry": {"kind": "date", "month_day": f"{date_of(last_day):%m-%d}"}})
    show("importing the customers", 0.01)
    _import_file(stage, server, "customers", people)
    imports = _import(stage, server, files, scale, show)
    server.stop()
    expiry, lots, customers = _expire(stage, url, due_at, scale, show)
    show("checking the ledger", 0.8)
    return Large(store, imports, expiry, lots, customers, stage.run(url, "doctor", "--ledger"))


# -- the import --------------------------------------------------------------------------------------------------------


def _import(stage: Stage, server: Server, files: Sequence[Path], scale: Scale, show: Report) -> Job:
    sampler = MemorySampler(server)
    with LiveTraffic(server, _buyers(server.client())) as live:
        show("live traffic alone", 0.03)
        quiet_s = time.time()
        time.sleep(scale.program_quiet_s)
        sampler.start()
        ends_s = [time.time()]
        for part, file in enumerate(files):
            show(f"importing, tenth {part + 1} of {PARTS}", 0.05 + 0.5 * part / PARTS)
            _import_file(stage, server, "transactions", file)
            ends_s.append(time.time())
        sampler.stop()
        took_s = ends_s[-1] - ends_s[0]
        rows = scale.program_purchases
        return Job(
            [rows / PARTS / (end_s - begin_s) for begin_s, end_s in pairwise(ends_s)],
            rows / took_s,
            took_s,
            live.waits(quiet_s, ends_s[0]),
            live.waits(ends_s[0], ends_s[-1]),
            sampler.memory,
        )


def _import_file(stage: Stage, server: Server, kind: str, file: Path) -> None:
    finished = stage.call(server, "import", kind, str(file))
    if finished.status or not finished.output.endswith("imported, 0 were there already, 0 are refused"):
        raise RuntimeError(f"the import of {file.name}: {finished.output[-2_000:]}")


def _buyers(client: ApiClient) -> list[str]:
    """The customers that live traffic is about: so many that none buys as often as fraud rules forbid."""
    found: list[str] = []
    cursor: str | None = ""
    for _ in range(_PAGES_OF_BUYERS):
        if cursor is None:
            break
        page = client.call("GET", "/v1/customers?limit=100" + (f"&cursor={cursor}" if cursor else ""))
        found += [each["id"] for each in page["data"]]
        cursor = page["next_cursor"]
    return found


# -- the expiry --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """The run of the job on the machine's clock, the customers that it changed, and (time, customers left) during it."""

    began_s: float
    ended_s: float
    customers: int
    left: Sequence[tuple[float, int]]


def _expire(stage: Stage, url: str, due_at: UnixMs, scale: Scale, show: Report) -> tuple[Job, int, int]:
    """The job, how many lots expired, and of how many customers the job was. Live purchases have settled the others."""
    ahead_ms = due_at - round(scale.program_quiet_s * MS_PER_S) - _STARTING_MS - SystemClock().now_ms()
    server = stage.serve(url, clock_ahead_ms=ahead_ms)
    sampler = MemorySampler(server)
    with (
        closing(open_reader(url)) as reader,
        LiveTraffic(server, _buyers(server.client())) as live,
    ):
        show("live traffic alone", 0.55)
        quiet_s, due_s = time.time(), (due_at - ahead_ms) / MS_PER_S
        time.sleep(max(0.0, due_s - quiet_s))
        sampler.start()
        run = _watch(reader, due_at, ahead_ms, scale, show)
        sampler.stop()
        quiet, beside = live.waits(quiet_s, due_s), live.waits(run.began_s, run.ended_s)
    server.stop()
    lots = _expired(url, due_at)
    took_s, lots_each = run.ended_s - run.began_s, lots / scale.program_customers
    rates = [run.customers * lots_each / PARTS / seconds for seconds in tenths(run.left)]
    job = Job(rates, run.customers * lots_each / took_s, took_s, quiet, beside, sampler.memory)
    return job, lots, run.customers


def _watch(reader: DriverConnection, due_at: UnixMs, ahead_ms: int, scale: Scale, show: Report) -> _Run:
    """The run of the job that ended when no customer was due any more. Raises RuntimeError after an hour."""
    left: list[tuple[float, int]] = []
    deadline_s = time.time() + _LONGEST_S
    while time.time() < deadline_s:
        [(due,)] = reader.execute(_DUE, (due_at,))
        left.append((time.time(), due))
        show("expiring", 0.6 + 0.2 * (1 - due / scale.program_customers))
        found = reader.execute(_RUN, (due_at,)) if not due else []
        for started_at, finished_at, customers in found:
            began_s, ended_s = (started_at - ahead_ms) / MS_PER_S, (finished_at - ahead_ms) / MS_PER_S
            within = [each for each in left if began_s < each[0] < ended_s]
            return _Run(began_s, ended_s, customers, [(began_s, customers), *within, (ended_s, 0)])
        time.sleep(_POLL_S)
    raise RuntimeError("the points have not expired within an hour")


def tenths(left: Sequence[tuple[float, int]]) -> list[float]:
    """How long each tenth of the work took. `left`: at which time how much was left, from all of it to nothing."""
    total = left[0][1]
    marks = [left[0][0]]
    for part in range(1, PARTS):
        target = total * (PARTS - part) / PARTS
        (begin_s, before), (end_s, after) = next(pair for pair in pairwise(left) if pair[1][1] <= target)
        share = (before - target) / (before - after) if before > after else 1.0
        marks.append(begin_s + share * (end_s - begin_s))
    marks.append(left[-1][0])
    return [max(end_s - begin_s, 1e-3) for begin_s, end_s in pairwise(marks)]


def _expired(url: str, due_at: UnixMs) -> int:
    """The number of lots that have expired. Raises RuntimeError when one of them still holds points."""
    with closing(open_reader(url)) as reader:
        [(lots, remaining)] = reader.execute(_LOTS, (due_at,))
    if remaining:
        raise RuntimeError(f"{remaining} points have not expired")
    return int(lots)


# -- the page ----------------------------------------------------------------------------------------------------------


def _goals(large: Large, scale: Scale) -> list[Goal]:
    """The rows of the table. A run with fewer purchases decides none of them."""
    decides = scale.program_purchases >= Scale.program_purchases
    count = f"{scale.program_purchases:,}"
    goals = [
        *_job_goals(f"import of {count} purchases", "rows", large.store, large.imports),
        *_job_goals(f"expiry of {large.lots:,} lots", "lots", large.store, large.expiry),
        Goal(
            f"ledger after both, {large.store}",
            "`doctor --ledger` finds nothing",
            f"{large.check.output.splitlines()[-1]} ({large.check.took_s:,.0f} s)",
            large.check.status == 0,
        ),
    ]
    return goals if decides else [replace(each, reached=None) for each in goals]


def _job_goals(what: str, unit: str, store: str, job: Job) -> list[Goal]:
    memory, slower = job.memory, job.beside.purchases.percentile(99) / job.quiet.purchases.percentile(99)
    return [
        Goal(
            f"{what}, {store}",
            f"the last tenth at least {_LEAST_RATIO}x the first",
            f"{job.last_to_first:.2f}x; {job.per_s:,.0f} {unit}/s in all",
            job.last_to_first >= _LEAST_RATIO,
        ),
        Goal(
            f"memory during it, {store}",
            "flat: the last quarter within 5 % of the second",
            f"{memory.mean(0.25, 0.5):.0f} MB, then {memory.mean(0.75, 1):.0f} MB",
            memory.is_flat,
        ),
        Goal(
            f"live purchases beside it, {store}",
            f"p99 within {_MOST_P99:.0f}x of before",
            f"{slower:.1f}x ({job.beside.purchases.percentile(99):.1f} ms)",
            slower <= _MOST_P99,
        ),
    ]


_INTRO = """{scale.program_purchases:,} purchases of {scale.program_customers:,} customers, in ten files of equal size for
`loyalpro import`, with receipt numbers, ten months of dates, and items in every fourth. Each earns one lot, and by the program's
policy all lots expire at the end of one day. Churn scoring is off, and there are no endpoints. For the expiry, the server starts
again with a clock that reaches that day's end after {scale.program_quiet_s:,.0f} s, and the periodic job does the rest.

Live traffic is {per_s} calls/s, every other one a purchase and the others reads of one customer, from clients that do not wait for
each other: the time runs from when the call was due. "Alone" is the same traffic before, to the same server. Memory is the resident
memory of the server. Before the run, the load of the machine was {load:.1f}.

"""


def _tables(large: Large) -> str:
    imports, expiry = large.imports, large.expiry
    tenth_rows = "\n".join(
        f"| {number} | {rows:,.0f} | {imports.memory.mean(begin, begin + 0.1):,.0f} | {lots:,.0f} | "
        f"{expiry.memory.mean(begin, begin + 0.1):,.0f} |"
        for number, (rows, lots) in enumerate(zip(imports.rates, expiry.rates, strict=True), 1)
        for begin in [(number - 1) / PARTS]
    )
    waits = {
        "alone, before the import": imports.quiet,
        f"beside the import ({imports.took_s:,.0f} s)": imports.beside,
        "alone, before the expiry": expiry.quiet,
        f"beside the expiry ({expiry.took_s:,.0f} s)": expiry.beside,
    }
    wait_rows = "\n".join(f"| {name} | {each.purchases} | {each.reads} |" for name, each in waits.items())
    return (
        f"| {large.store}, tenth | imported, rows/s | memory, MB | expired, lots/s | memory, MB |\n|---|---|---|---|---|\n"
        f"{tenth_rows}\n\n"
        f"| {large.store}, live traffic | purchases | reads |\n|---|---|---|\n{wait_rows}\n\n"
        f"The job expired the points of {large.customers:,} customers; live purchases had settled the others. The check of the ledger "
        f"took {large.check.took_s:,.0f} s and at most {large.check.peak_mb:,.0f} MB.\n"
    )
