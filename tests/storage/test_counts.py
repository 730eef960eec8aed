"""Pending deliveries and endpoints are counted page by page, and every one of them once."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.storage.count_job import ENDPOINT_STATES, PAGES_PER_RUN, PENDING_STATES, CountJob
from loyalpro.storage.database import Database
from loyalpro.storage.tables.counts import PAGE, CountedPage
from support.databases import Databases
from support.history import History, query
from support.jobs import opened

NOW = SystemClock().now_ms()


class Counts:
    """Satisfies `CountMetrics`."""

    def __init__(self) -> None:
        self.deliveries: Mapping[str, int] = {}
        self.endpoints: Mapping[str, int] = {}

    def deliveries_counted(self, counts: Mapping[str, int]) -> None:
        self.deliveries = counts

    def endpoints_counted(self, counts: Mapping[str, int]) -> None:
        self.endpoints = counts


def counted(url: str) -> tuple[Counts, int]:
    """The counts of a run, and how many pieces it had."""

    async def run(database: Database) -> tuple[Counts, int]:
        counts, pieces = Counts(), 1
        job = CountJob(database, counts)
        while (await job.run_piece(NOW)).more:
            pieces += 1
        return counts, pieces

    found: tuple[Counts, int] = asyncio.run(opened(url, run))
    return found


class Pages:
    """Satisfies `Database` as far as the job needs it: it returns these pages, one after the other."""

    def __init__(self, *pages: CountedPage) -> None:
        self._pages = list(pages)

    async def read(self, work: object, writer: str = "ingest") -> CountedPage:
        return self._pages.pop(0)


def test_a_count_of_many_pages_takes_several_runs_and_never_falls_meanwhile() -> None:
    full, end = CountedPage({"pending": 2_000}, "dlv_x"), CountedPage({"pending": 10}, None)
    counts, pages = Counts(), [*[full] * (2 * PAGES_PER_RUN), end, CountedPage({}, None), *[full] * PAGES_PER_RUN, end]
    job: Any = CountJob(Pages(*pages), counts)  # type: ignore[arg-type]
    seen = []
    for _ in range(4):
        while asyncio.run(job.run_piece(NOW)).more:
            pass
        seen.append(counts.deliveries["pending"])
    half, whole = PAGES_PER_RUN * 2_000, 2 * PAGES_PER_RUN * 2_000
    assert seen == [half, whole, whole + 10, whole + 10]
    asyncio.run(job.run_piece(NOW))
    assert counts.deliveries["pending"] == half + 10


def test_an_empty_database_has_a_zero_for_every_state(database_url: str) -> None:
    counts, pieces = counted(database_url)
    assert counts.deliveries == dict.fromkeys(PENDING_STATES, 0)
    assert counts.endpoints == dict.fromkeys(ENDPOINT_STATES, 0)
    assert pieces == 2


@pytest.mark.parametrize("extra", [0, 1])
def test_deliveries_are_counted_by_the_status_that_the_api_shows(databases: Databases, store: str, extra: int) -> None:
    """Also when the last page is full."""
    history = History(databases.fresh(store), NOW)
    enabled, paused, disabled, deleted = (
        history.endpoint(each) for each in ("enabled", "paused", "disabled", "enabled")
    )
    history.events(enabled, PAGE - 600 + extra, at=NOW - 5_000, status="pending")
    history.events(paused, 300, at=NOW - 4_000, status="pending")
    history.events(disabled, 200, at=NOW - 3_000, status="pending")
    history.events(deleted, 100, at=NOW - 2_000, status="pending")
    history.events(enabled, 50, at=NOW - 1_000)
    query(history.url, "UPDATE endpoints SET deleted_at = 1 WHERE id = ?", deleted)
    counts, pieces = counted(history.url)
    assert counts.deliveries == {"pending": PAGE - 600 + extra, "parked": 500}
    assert pieces == 3


def test_endpoints_are_counted_by_their_health_or_their_status(database_url: str) -> None:
    history = History(database_url, NOW)
    healthy, failing, opened_, recovering = (history.endpoint() for _ in range(4))
    for status in ("paused", "disabled"):
        history.endpoint(status)
    deleted = history.endpoint()
    query(history.url, "UPDATE endpoints SET deleted_at = 1 WHERE id = ?", deleted)
    health = "INSERT INTO endpoint_health (endpoint_id, failures, failing_since, probes, probe_at, recovered_at, warned_days)"
    query(history.url, f"{health} VALUES (?, 1, 5, 0, NULL, NULL, 0)", failing)
    query(history.url, f"{health} VALUES (?, 9, 5, 1, 7, NULL, 0)", opened_)
    query(history.url, f"{health} VALUES (?, 0, NULL, 0, NULL, ?, 0)", recovering, NOW - 1)
    query(history.url, f"{health} VALUES (?, 0, NULL, 0, NULL, NULL, 0)", healthy)
    query(
        history.url,
        "INSERT INTO endpoints (id, account_id, url, types, ordering, headers, status, created_at, updated_at)"
        " SELECT e.id || c.n, account_id, url, types, ordering, headers, status, created_at, updated_at FROM endpoints e,"
        f" (WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {PAGE}) SELECT n FROM c) c"
        " WHERE e.id = ?",
        healthy,
    )
    counts, pieces = counted(history.url)
    assert counts.endpoints == {
        "healthy": PAGE + 1,
        "failing": 1,
        "open": 1,
        "recovering": 1,
        "paused": 1,
        "disabled": 1,
    }
    assert pieces == 3
