"""The backlog scan: page by page, each endpoint once, and only endpoints that deliveries can be sent to."""

from collections.abc import Iterator

import pytest

from loyalpro.delivery.claims import BacklogPage, ClaimRequest
from loyalpro.kernel.clock import SystemClock, UnixMs
from loyalpro.storage.tables.claims import ClaimTables
from loyalpro.storage.tables.leases import LeaseTables
from support.history import VAULT, History, transaction

ENDPOINTS = 150
pytestmark = pytest.mark.usefixtures("one_connection")


@pytest.fixture
def now() -> UnixMs:
    return SystemClock().now_ms()


def pages(url: str, now: UnixMs, closing_since: UnixMs = 0) -> Iterator[BacklogPage]:
    """Yield all pages, each read in a transaction of its own."""
    after: str | None = ""
    while after is not None:
        with transaction(url) as connection:
            page = ClaimTables(connection, VAULT).scan_backlog(now, after, closing_since)
        yield page
        after = page.until


def test_the_pages_of_a_scan_have_every_endpoint_with_pending_deliveries_once(database_url: str, now: UnixMs) -> None:
    history = History(database_url, now)
    pending = [history.endpoint() for _ in range(ENDPOINTS)]
    due = {endpoint: now - 1_000 * number for number, endpoint in enumerate(pending)}
    for endpoint in pending:
        history.events(endpoint, 2, at=due[endpoint], status="pending")
        history.events(history.endpoint(), 1, at=now - 1_000)
    found = list(pages(database_url, now))
    assert len(found) > 2
    backlogs = [each for page in found for each in page.endpoints]
    assert [each.target.endpoint_id for each in backlogs] == sorted(pending)
    assert {each.target.endpoint_id: each.due_at for each in backlogs} == due
    assert [page.until is None for page in found] == [False] * (len(found) - 1) + [True]


def test_endpoints_that_are_paused_or_whose_deliveries_are_leased_are_left_out(database_url: str, now: UnixMs) -> None:
    """A page may be empty although others follow."""
    history = History(database_url, now)
    busy = [history.endpoint() for _ in range(ENDPOINTS)]
    for endpoint in busy:
        history.events(endpoint, 1, at=now - 1_000, status="pending")
    paused, last = history.endpoint(status="paused"), history.endpoint()
    for endpoint in (paused, last):
        history.events(endpoint, 1, at=now - 1_000, status="pending")
    with transaction(database_url) as connection:
        LeaseTables(connection).register("wrk_1", host="h", pid=1, now=now, ttl_ms=9_000)
        ClaimTables(connection, VAULT).claim("wrk_1", [ClaimRequest(each, 1) for each in busy], now, 0)
    found = list(pages(database_url, now))
    assert [page.workers for page in found] == [1] * len(found)
    assert not found[0].endpoints
    assert found[0].until is not None
    assert [each.target.endpoint_id for page in found for each in page.endpoints] == [last]


def test_the_first_page_has_the_endpoints_with_urgent_deliveries_that_are_not_leased(
    database_url: str, now: UnixMs
) -> None:
    history = History(database_url, now)
    for _ in range(ENDPOINTS):
        history.events(history.endpoint(), 1, at=now - 1_000, status="pending")
    manual, closing, later, leased = (history.endpoint() for _ in range(4))
    for endpoint in (manual, closing, later, leased):
        history.events(endpoint, 1, at=now - 1_000, status="pending")
    with transaction(database_url) as connection:
        make_manual = "UPDATE deliveries SET fallback_status = 'pending', fallback_due_at = ? WHERE endpoint_id = ?"
        for endpoint in (manual, leased):
            connection.execute(make_manual, (now, endpoint))
        set_times = "UPDATE deliveries SET first_attempt_at = ?, due_at = ? WHERE endpoint_id = ?"
        connection.execute(set_times, (now - 5_000, now, closing))
        connection.execute(set_times, (now - 5_000, now + 1, later))
        LeaseTables(connection).register("wrk_1", host="h", pid=1, now=now, ttl_ms=9_000)
        ClaimTables(connection, VAULT).claim("wrk_1", [ClaimRequest(leased, 1)], now, 0)
    first, *others = pages(database_url, now, closing_since=now - 5_000)
    assert sorted(first.urgent) == sorted([manual, closing])
    assert [list(page.urgent) for page in others] == [[]] * len(others)
