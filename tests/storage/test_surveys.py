"""The survey of all lanes: page by page, each lane once, and only those that something can be sent to."""

from collections.abc import Iterator

import pytest

from loyalpro.delivery.ports import LaneRequest, Survey
from loyalpro.kernel.clock import SystemClock, UnixMs
from loyalpro.storage.tables.lanes import LaneTables
from loyalpro.storage.tables.leases import LeaseTables
from support.history import VAULT, History, transaction

ENDPOINTS = 150


@pytest.fixture
def now() -> UnixMs:
    return SystemClock().now_ms()


def pages(url: str, now: UnixMs, closing_since: UnixMs = 0) -> Iterator[Survey]:
    """All of them, each in a transaction of its own."""
    after: str | None = ""
    while after is not None:
        with transaction(url) as connection:
            page = LaneTables(connection, VAULT).survey(now, after, closing_since)
        yield page
        after = page.until


def test_the_pages_of_a_survey_show_every_lane_once(database_url: str, now: UnixMs) -> None:
    history = History(database_url, now)
    owed = [history.endpoint() for _ in range(ENDPOINTS)]
    due = {endpoint: now - 1_000 * number for number, endpoint in enumerate(owed)}
    for endpoint in owed:
        history.events(endpoint, 2, at=due[endpoint], status="pending")
        history.events(history.endpoint(), 1, at=now - 1_000)
    found = list(pages(database_url, now))
    assert len(found) > 2
    states = [state for page in found for state in page.lanes]
    assert [state.target.endpoint_id for state in states] == sorted(owed)
    assert {state.target.endpoint_id: state.due_at for state in states} == due
    assert [page.until is None for page in found] == [False] * (len(found) - 1) + [True]


def test_lanes_that_nothing_can_be_sent_to_are_passed_over(database_url: str, now: UnixMs) -> None:
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
        LaneTables(connection, VAULT).claim("wrk_1", [LaneRequest(each, 1) for each in busy], now, 0)
    found = list(pages(database_url, now))
    assert [page.workers for page in found] == [1] * len(found)
    assert not found[0].lanes
    assert found[0].until is not None
    assert [state.target.endpoint_id for page in found for state in page.lanes] == [last]


def test_what_cannot_wait_is_on_the_first_page_unless_somebody_is_sending_it(database_url: str, now: UnixMs) -> None:
    history = History(database_url, now)
    for _ in range(ENDPOINTS):
        history.events(history.endpoint(), 1, at=now - 1_000, status="pending")
    by_hand, closing, later, sent = (history.endpoint() for _ in range(4))
    for endpoint in (by_hand, closing, later, sent):
        history.events(endpoint, 1, at=now - 1_000, status="pending")
    with transaction(database_url) as connection:
        by_hand_too = "UPDATE deliveries SET fallback_status = 'pending', fallback_due_at = ? WHERE endpoint_id = ?"
        for endpoint in (by_hand, sent):
            connection.execute(by_hand_too, (now, endpoint))
        begun = "UPDATE deliveries SET first_attempt_at = ?, due_at = ? WHERE endpoint_id = ?"
        connection.execute(begun, (now - 5_000, now, closing))
        connection.execute(begun, (now - 5_000, now + 1, later))
        LeaseTables(connection).register("wrk_1", host="h", pid=1, now=now, ttl_ms=9_000)
        LaneTables(connection, VAULT).claim("wrk_1", [LaneRequest(sent, 1)], now, 0)
    first, *others = pages(database_url, now, closing_since=now - 5_000)
    assert sorted(first.urgent) == sorted([by_hand, closing])
    assert [list(page.urgent) for page in others] == [[]] * len(others)
