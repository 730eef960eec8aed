"""What a settlement writes of a delivery, and what it leaves as it was."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.by_hand import Standing
from loyalpro.delivery.ports import Attempt, LaneRequest, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import SystemClock, VirtualClock
from loyalpro.kernel.ids import IdFactory, delivery_id
from loyalpro.storage.connection import Connection, RetryTransaction
from loyalpro.storage.tables.control import ControlTables
from loyalpro.storage.tables.lanes import LaneTables
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.tables.settlements import SettlementTables
from support.databases import Databases
from support.history import ACCOUNT, VAULT, History, query, transaction
from support.rivals import at_once, somebody_waits

_COLUMNS = (
    "account_id, endpoint_id, event_id, event_type, customer_id, sequence, created_at, uncounted_attempts, status, due_at,"
    " attempts, first_attempt_at, outcome, finished_at, fallback_status, fallback_due_at"
)
_RETRY_MS = 60_000


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
@pytest.mark.parametrize("status", [DeliveryStatus.SUCCEEDED, DeliveryStatus.EXHAUSTED, DeliveryStatus.PENDING])
def test_a_settled_delivery_is_what_it_was_but_for_its_outcome(
    databases: Databases, store: str, status: DeliveryStatus
) -> None:
    now = SystemClock().now_ms()
    history = History(databases.fresh(store), now)
    endpoint, customer = history.endpoint(ordering="customer"), history.ids.new("cus")
    [event] = history.events(endpoint, 1, at=now - 1, status="pending", customer_id=customer, ordered=True)
    query(history.url, "UPDATE deliveries SET attempts = 3, uncounted_attempts = 1, first_attempt_at = 5")
    query(history.url, "UPDATE deliveries SET fallback_status = 'exhausted', fallback_due_at = 9")

    finished = status is not DeliveryStatus.PENDING
    _settle(history, endpoint, status, now, due_at=None if finished else now + _RETRY_MS)

    [row] = query(history.url, f"SELECT {_COLUMNS} FROM deliveries")
    before = (row[0], endpoint, event, "points.earned", customer, 1, now - 1, 1)
    after = (status, now - 1 if finished else now + _RETRY_MS, 4, 5, "http_5xx", now if finished else None, None, None)
    assert row == (*before, *after)
    assert query(history.url, "SELECT COUNT(*) FROM leases") == [(0,)]


def _settle(history: History, endpoint: str, status: DeliveryStatus, now: int, **moved: Any) -> None:
    with transaction(history.url) as connection:
        _settle_in(connection, endpoint, status, now, **moved)


def _settle_in(connection: Connection, endpoint: str, status: DeliveryStatus, now: int, **moved: Any) -> None:
    settlement = _claim_in(connection, endpoint, status, now, **moved)
    _settlements(connection, now).settle("wrk_1", [settlement], now, longest_probe_s=60)


def _claim_in(connection: Connection, endpoint: str, status: DeliveryStatus, now: int, **moved: Any) -> Settlement:
    LeaseTables(connection).register("wrk_1", host="h", pid=1, now=now, ttl_ms=1)
    [claimed] = LaneTables(connection, VAULT).claim("wrk_1", [LaneRequest(endpoint, 1)], now, 0).claimed
    attempt = Attempt(claimed.attempt_number, now, OutcomeCode.HTTP_5XX, "", (), None, None, None)
    return Settlement(claimed, status, attempt=attempt, **moved)


def _settlements(connection: Connection, now: int) -> SettlementTables:
    return SettlementTables(connection, IdFactory(VirtualClock(now), random.Random(1)))


def test_whoever_waits_for_a_delivery_that_is_being_settled_looks_again(databases: Databases) -> None:
    """PostgreSQL moves the row to another partition: it must not look as if there had never been one."""
    now = SystemClock().now_ms()
    history = History(databases.fresh("postgres"), now)
    endpoint = history.endpoint()
    [event] = history.events(endpoint, 1, at=now - 1, status="pending")

    def stand() -> object:
        with transaction(history.url) as connection:
            return ControlTables(connection).standing(ACCOUNT, delivery_id(event, endpoint))

    with ThreadPoolExecutor(1) as owner:
        with transaction(history.url) as connection:
            _settle_in(connection, endpoint, DeliveryStatus.SUCCEEDED, now, due_at=None)
            looking = owner.submit(stand)
            _wait_until_somebody_waits(history.url)
        with pytest.raises(RetryTransaction):
            looking.result(30)
    assert isinstance(stand(), Standing)


def _wait_until_somebody_waits(url: str) -> None:
    deadline_s = time.monotonic() + 30
    while not somebody_waits(url):
        assert time.monotonic() < deadline_s, "nobody waits for the row"


@pytest.mark.parametrize("settled_first", [True, False])
def test_the_next_of_a_queue_goes_when_two_before_it_are_finished_at_once(
    databases: Databases, *, settled_first: bool
) -> None:
    now = SystemClock().now_ms()
    history = History(databases.fresh("postgres"), now)
    endpoint, customer = history.endpoint(ordering="customer"), history.ids.new("cus")
    _, second, _ = history.events(endpoint, 3, at=now - 9, status="pending", customer_id=customer, ordered=True)
    query(history.url, "UPDATE deliveries SET due_at = ? WHERE id = ?", now - 9, delivery_id(second, endpoint))
    with transaction(history.url) as connection:
        settlement = _claim_in(connection, endpoint, DeliveryStatus.SUCCEEDED, now, due_at=None)

    def settle(connection: Connection) -> None:
        _settlements(connection, now).settle("wrk_1", [settlement], now, longest_probe_s=60)

    def cancel(connection: Connection) -> None:
        standing = ControlTables(connection).standing(ACCOUNT, delivery_id(second, endpoint))
        assert standing is not None
        ControlTables(connection).cancel(standing, now)

    at_once(history.url, *((settle, cancel) if settled_first else (cancel, settle)))
    rows = query(history.url, "SELECT status, due_at FROM deliveries ORDER BY sequence")
    assert rows == [("succeeded", now - 9), ("canceled", now - 9), ("pending", now)]
