"""Searches for deliveries find all that match, a bounded look at a time."""

from dataclasses import replace

import pytest

from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.ids import floor
from loyalpro.webhooks.deliveries import (
    MOST_EVENTS_EXAMINED,
    MOST_EXAMINED,
    ListDeliveries,
    count_newer,
    find_deliveries,
)
from support.databases import Databases
from support.history import ACCOUNT, History, query, undone
from support.units import unit_on

DAY_MS = 24 * 3600 * 1000


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def history(request: pytest.FixtureRequest, databases: Databases) -> History:
    return History(databases.fresh(request.param), SystemClock().now_ms())


def pages(history: History, first: ListDeliveries) -> list[tuple[list[str], int | None]]:
    """The ids of the deliveries on each page, and how far the search looked back."""
    found: list[tuple[list[str], int | None]] = []
    wanted: ListDeliveries | None = first
    with undone(history.url) as connection:
        while wanted is not None:
            page = find_deliveries(unit_on(connection), wanted)
            found.append(([each.id for each in page.deliveries], page.looked_back_to))
            wanted = replace(first, before_id=page.next_before_id) if page.next_before_id else None
    return found


def test_a_search_says_how_far_it_looked_and_goes_on(history: History) -> None:
    at = history.now - 3 * DAY_MS
    busy, customer = history.endpoint(), history.ids.new("cus")
    [oldest] = history.events(busy, 1, at=at - DAY_MS, status="exhausted")
    query(history.url, "UPDATE deliveries SET outcome = 'http_5xx' WHERE event_id = ?", oldest)
    newer = history.events(busy, MOST_EXAMINED, at=at, customer_id=customer)
    by_outcome = ListDeliveries(ACCOUNT, None, 10, outcome="http_5xx")
    ids = [id_ for (id_,) in query(history.url, "SELECT id FROM deliveries WHERE event_id = ?", oldest)]
    assert pages(history, by_outcome) == [([], at), (ids, None)]
    assert pages(history, replace(by_outcome, endpoint_id=busy)) == [([], at), (ids, None)]
    assert pages(history, replace(by_outcome, outcome=None, status=DeliveryStatus.EXHAUSTED)) == [(ids, None)]
    assert pages(history, replace(by_outcome, until=at - 1)) == [(ids, None)]
    assert pages(history, replace(by_outcome, since=at)) == [([], at), ([], None)]
    of_customer = ListDeliveries(ACCOUNT, None, MOST_EXAMINED, customer_id=customer)
    looks = pages(history, of_customer)
    shown = [id_ for page, _ in looks for id_ in page]
    assert len(shown) == len(set(shown)) == len(newer)
    assert max(len(page) for page, _ in looks) == MOST_EVENTS_EXAMINED
    few = replace(of_customer, limit=3)
    with undone(history.url) as connection:
        page = find_deliveries(unit_on(connection), few)
        assert [each.event_id for each in page.deliveries] == newer[:-4:-1]
        older = find_deliveries(unit_on(connection), replace(few, before_id=page.next_before_id))
        assert [each.event_id for each in older.deliveries] == newer[-4:-7:-1]
        assert count_newer(unit_on(connection), few, older.deliveries[0].id) == 3
        assert count_newer(unit_on(connection), few, floor("dlv", at)) == few.limit
        assert count_newer(unit_on(connection), by_outcome, older.deliveries[0].id) == 0


def test_what_waits_is_found_by_what_it_waits_for(history: History) -> None:
    enabled, paused = history.endpoint(), history.endpoint(status="paused")
    [due], [parked] = (history.events(each, 1, at=history.now, status="pending") for each in (enabled, paused))
    for status, event in ((DeliveryStatus.PENDING, due), (DeliveryStatus.PARKED, parked)):
        with undone(history.url) as connection:
            found = find_deliveries(unit_on(connection), ListDeliveries(ACCOUNT, None, 10, status=status))
        assert [(each.event_id, each.status) for each in found.deliveries] == [(event, status)]
