"""What the dead were sending: who gets it, and when it is its turn."""

import pytest

from loyalpro.delivery.ports import LaneRequest
from loyalpro.kernel.clock import SystemClock, UnixMs
from loyalpro.storage.tables.lanes import LaneTables
from loyalpro.storage.tables.leases import LeaseTables
from support.history import VAULT, History, transaction

TTL_MS = 9_000


@pytest.fixture
def now() -> UnixMs:
    return SystemClock().now_ms()


def work(url: str, worker: str, endpoint: str, now: UnixMs, room: int = 1) -> list[str]:
    """A worker comes and leases what is due first; the events of that."""
    with transaction(url) as connection:
        LeaseTables(connection).register(worker, host="h", pid=1, now=now, ttl_ms=TTL_MS)
        claims = LaneTables(connection, VAULT).claim(worker, [LaneRequest(endpoint, room)], now, 0)
    return [each.event_id for each in claims.claimed]


def give_up(url: str, worker: str, now: UnixMs) -> None:
    with transaction(url) as connection:
        LeaseTables(connection).release(worker, now)


def test_what_a_dead_worker_held_goes_before_what_became_due_since(database_url: str, now: UnixMs) -> None:
    history = History(database_url, now)
    endpoint = history.endpoint()
    [first] = history.events(endpoint, 1, at=now - 20_000, status="pending")
    assert work(database_url, "wrk_1", endpoint, now - 20_000) == [first]
    [second] = history.events(endpoint, 1, at=now - 10_000, status="pending")
    give_up(database_url, "wrk_1", now)
    assert work(database_url, "wrk_2", endpoint, now, room=2) == [first, second]


def test_what_is_cut_short_twice_is_not_in_the_way_of_others(database_url: str, now: UnixMs) -> None:
    history = History(database_url, now)
    endpoint = history.endpoint()
    [poison] = history.events(endpoint, 1, at=now - 20_000, status="pending")
    [other] = history.events(endpoint, 1, at=now - 10_000, status="pending")
    for worker in ("wrk_1", "wrk_2"):
        assert work(database_url, worker, endpoint, now) == [poison]
        give_up(database_url, worker, now)
    assert work(database_url, "wrk_3", endpoint, now, room=2) == [other, poison]
