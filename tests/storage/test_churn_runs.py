"""Churn runs on a database: scheduled ones, several processes at once, ends in the middle, and fits that fail."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs, VirtualClock
from loyalpro.loyalty.churn.features import History
from loyalpro.loyalty.churn.fit import Fit, fit
from loyalpro.loyalty.churn.fit_process import FitFailed, fit_apart
from loyalpro.loyalty.sweeps.churn_run import ChurnJob
from loyalpro.storage.open import open_database
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner
from support.churn import LEAVING, REGULAR, Scored, population
from support.history import ACCOUNT, query
from support.jobs import run_jobs
from support.processes import running
from support.server import API_KEY
from support.units import tools, wake_nothing
from support.waiting import until

NOON: UnixMs = 1_795_867_200_000
"""2026-11-28T12:00:00Z."""
ALMOST = range(129, 28, -10)
"""Bought every ten days, the last time 29 days ago: the level becomes medium after 30 days of silence."""


@pytest.fixture
def scored(database_url: str, one_connection: None) -> Scored:
    return Scored(database_url, NOON)


@asynccontextmanager
async def jobs_of(url: str, count: int, now: UnixMs = NOON, **options: Any) -> Any:
    """So many jobs, each as in a process of its own. SQLite has one process for each database."""
    shared = open_database(url, SystemClock())
    databases = [open_database(url, SystemClock()) if shared.dialect.is_postgres else shared for _ in range(count)]
    async with AsyncExitStack() as stack:
        for database in set(databases):
            await database.start()
            stack.push_async_callback(database.stop)
        yield [
            ChurnJob(
                DatabaseUnitOfWorkRunner(
                    database,
                    tools(seed, clock=VirtualClock(now)),
                    wake_endpoints=wake_nothing,
                    wake_job=lambda _: None,
                ),
                on_finished=options.get("on_finished", lambda _: None),
                on_fit_failed=options.get("on_fit_failed", lambda *_: None),
                fit=options.get("fit", fit_apart),
            )
            for seed, database in enumerate(databases, 1)
        ]


async def work(job: ChurnJob, now: UnixMs = NOON) -> None:
    """Run pieces until none is left to do."""
    while (await job.run_piece(now)).more:
        pass


def run_alone(url: str, now: UnixMs = NOON, **options: Any) -> None:
    async def alone() -> None:
        async with jobs_of(url, 1, now, **options) as [job]:
            await work(job, now)

    asyncio.run(alone())


async def fit_here(histories: Sequence[History]) -> Fit | None:
    """The fit without a process of its own, which other processes would slow down."""
    return fit(histories)


async def fail(_: Sequence[History]) -> Fit | None:
    raise FitFailed("No.")


# -- scheduled runs ----------------------------------------------------------------------------------------------------


def test_the_first_scheduled_run_is_silent_and_the_next_one_announces_rises(scored: Scored) -> None:
    almost, leaving, regular = scored.add([ALMOST, LEAVING, REGULAR])
    run_jobs(scored.url, NOON, "churn")
    run_jobs(scored.url, NOON + MS_PER_DAY // 3, "churn")  # the same day
    assert scored.runs() == [("done", "silent", 3, 0)]
    assert scored.levels() == {almost: "low", leaving: "high", regular: "low"}
    run_jobs(scored.url, NOON + MS_PER_DAY, "churn")
    assert scored.runs()[1:] == [("done", "emit", 3, 1)]
    assert scored.announced() == [almost]
    assert scored.levels() == {almost: "medium", leaving: "high", regular: "low"}


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_run_after_an_import_is_silent(scored: Scored, *, dry_run: bool) -> None:
    scored.add([ALMOST])
    run_jobs(scored.url, NOON, "churn")
    query(
        scored.url,
        "INSERT INTO jobs (id, account_id, kind, status, params, actor, created_at, updated_at)"
        " VALUES ('job_1', ?, 'import_transactions', 'running', ?, 'key:1', ?, ?)",
        *(ACCOUNT, '{"dry_run": true}' if dry_run else "{}", NOON, NOON + 1),
    )
    run_jobs(scored.url, NOON + MS_PER_DAY, "churn")
    assert scored.runs()[1] == (("done", "emit", 1, 1) if dry_run else ("done", "silent", 1, 0))


def test_a_run_that_takes_a_model_in_place_of_gaps_is_silent(scored: Scored) -> None:
    scored.add([ALMOST])
    run_alone(scored.url, fit=fit_here)
    scored.add(list(population().values()))
    run_alone(scored.url, NOON + MS_PER_DAY, fit=fit_here)
    assert scored.runs()[1] == ("done", "silent", 241, 0)
    assert query(scored.url, "SELECT version, fitted_customers FROM churn_models ORDER BY version") == [
        ("2026-11-28", 0),
        ("2026-11-29", 241),
    ]


def test_a_model_is_fitted_anew_after_a_week(scored: Scored) -> None:
    scored.add(list(population().values()))
    for day in (0, 1, 6, 7):
        run_alone(scored.url, NOON + day * MS_PER_DAY, fit=fit_here)
    versions = query(scored.url, "SELECT version FROM churn_models ORDER BY version")
    assert versions == [("2026-11-28",), ("2026-12-05",)]
    assert [each[1] for each in scored.runs()] == ["silent", "emit", "emit", "emit"]


def test_blocked_deleted_and_fully_refunded_customers_have_no_score(scored: Scored) -> None:
    ids = scored.add([LEAVING] * 5)
    scored.request()
    scored.schedule_none()
    run_alone(scored.url)
    assert scored.levels() == dict.fromkeys(ids, "high")
    query(scored.url, "UPDATE customers SET earning_blocked = 1 WHERE id = ?", ids[0])
    query(scored.url, "UPDATE customers SET redeeming_blocked = 1 WHERE id = ?", ids[1])
    query(scored.url, "UPDATE customers SET status = 'deleted' WHERE id = ?", ids[2])
    query(scored.url, "UPDATE customer_days SET purchases = 0, spend = 0 WHERE customer_id = ?", ids[4])
    scored.request()
    run_alone(scored.url)
    assert scored.levels() == {ids[3]: "high"}


# -- several processes, and ends in the middle --------------------------------------------------------------------------


def test_two_processes_emit_each_event_once(scored: Scored) -> None:
    ids = scored.add([LEAVING] * 450)
    scored.schedule_none()
    scored.request()

    async def together() -> None:
        async with jobs_of(scored.url, 2) as (first, second):
            while scored.runs()[0][0] != "done":
                await asyncio.gather(work(first), work(second))

    asyncio.run(together())
    assert scored.runs() == [("done", "emit", 450, 450)]
    assert scored.announced() == ids


def test_two_processes_start_a_scheduled_run_once(scored: Scored) -> None:
    scored.add([LEAVING])

    async def together() -> None:
        async with jobs_of(scored.url, 2) as (first, second):
            await asyncio.gather(work(first), work(second))
            await asyncio.gather(work(first), work(second))

    asyncio.run(together())
    assert scored.runs() == [("done", "silent", 1, 0)]


def test_a_run_continues_where_another_process_ended(scored: Scored) -> None:
    ids = scored.add([LEAVING] * 450)
    scored.schedule_none()
    scored.request()

    async def one_piece(now: UnixMs) -> None:
        async with jobs_of(scored.url, 1, now) as [job]:
            await job.run_piece(now)

    found: list[tuple[int, int]] = []
    for number in range(4):  # the preparation, and three pieces
        asyncio.run(one_piece(NOON + number))
        found.append((len(scored.levels()), len(scored.announced())))
    assert found == [(0, 0), (200, 200), (400, 400), (450, 450)]
    assert scored.announced() == ids
    assert scored.runs() == [("done", "emit", 450, 450)]


def test_a_killed_server_leaves_a_run_that_the_next_one_finishes(database_url: str, tmp_path: Path) -> None:
    scored = Scored(database_url, SystemClock().now_ms())
    ids = scored.add([LEAVING] * 4_000)
    scored.schedule_none()
    scored.request()
    settings: dict[str, Any] = {
        "database_url": database_url,
        "data_dir": str(tmp_path),
        "port": "0",
        "min_free_mb": "0",
    }
    with running("serve", **settings, bootstrap_api_key=API_KEY) as server:
        server.logged("listening")
        until(scored.levels, bool)
        server.kill()
    [(status, _, done, events)] = [each for each in scored.runs() if each[1] == "emit"]
    assert status == "running"
    assert 0 < done < 4_000
    assert events == done == len(scored.announced())
    with running("serve", **settings, bootstrap_api_key=API_KEY) as server:
        assert server.logged("churn_scored")["events"] in (0, 4_000)
        until(scored.announced, lambda found: len(found) == 4_000)
    assert scored.announced() == ids


# -- fits --------------------------------------------------------------------------------------------------------------


def test_a_failed_fit_is_reported_and_keeps_the_old_model(scored: Scored) -> None:
    scored.add(list(population().values()))
    run_alone(scored.url, fit=fit_here)
    reported: list[tuple[str, str]] = []

    later = NOON + 9 * MS_PER_DAY
    run_alone(scored.url, later, fit=fail, on_fit_failed=lambda *found: reported.append(found))
    assert reported == [(ACCOUNT, "No.")]
    assert query(scored.url, "SELECT version FROM churn_models") == [("2026-11-28",)]
    assert scored.runs()[1][:2] == ("done", "emit")
    run_alone(scored.url, later + MS_PER_DAY, fit=fit_here)
    assert query(scored.url, "SELECT COUNT(*) FROM churn_models") == [(2,)]


def test_an_account_whose_first_fit_fails_is_scored_by_gaps(scored: Scored) -> None:
    scored.add(list(population().values()))

    run_alone(scored.url, fit=fail)
    assert query(scored.url, "SELECT parameters, fitted_customers FROM churn_models") == [(None, 0)]
    assert scored.runs() == [("done", "silent", 240, 0)]


def test_a_run_that_cannot_continue_fails_and_the_next_one_runs(scored: Scored) -> None:
    scored.add([LEAVING])
    scored.schedule_none()
    scored.request()
    scored.request()

    async def broken(_: Sequence[History]) -> Fit | None:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        run_alone(scored.url, fit=broken)
    run_alone(scored.url)
    assert scored.runs() == [("failed", None, 0, 0), ("done", "emit", 1, 1)]
