"""The leases of dead workers: when they are released, and in which order their deliveries are sent."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loyalpro.delivery.claims import ClaimKind, ClaimRequest
from loyalpro.delivery.worker_registration import LeaseTimes
from loyalpro.kernel.clock import MS_PER_S, SystemClock, UnixMs
from loyalpro.kernel.ids import IdFactory, forged_delivery_id
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.open import open_database
from loyalpro.storage.tables.claims import ClaimTables
from loyalpro.storage.tables.leases import LeaseTables
from support.databases import Databases
from support.history import VAULT, History, query, transaction

TTL_MS = 9_000


@pytest.fixture
def now() -> UnixMs:
    return SystemClock().now_ms()


def lease(url: str, worker: str, endpoint: str, now: UnixMs, limit: int = 1) -> list[str]:
    """Register a worker and let it lease the first due deliveries; return the ids of their events."""
    with transaction(url) as connection:
        LeaseTables(connection).register(worker, host="h", pid=1, now=now, ttl_ms=TTL_MS)
        claims = ClaimTables(connection, VAULT).claim(worker, [ClaimRequest(endpoint, limit)], now, 0)
    return [each.event_id for each in claims.claimed]


def release(url: str, worker: str, now: UnixMs) -> None:
    with transaction(url) as connection:
        LeaseTables(connection).release(worker, now)


def test_a_delivery_of_a_dead_worker_is_sent_before_deliveries_that_became_due_since(
    database_url: str, now: UnixMs
) -> None:
    history = History(database_url, now)
    endpoint = history.endpoint()
    [first] = history.events(endpoint, 1, at=now - 20_000, status="pending")
    assert lease(database_url, "wrk_1", endpoint, now - 20_000) == [first]
    [second] = history.events(endpoint, 1, at=now - 10_000, status="pending")
    release(database_url, "wrk_1", now)
    assert lease(database_url, "wrk_2", endpoint, now, limit=2) == [first, second]


def test_a_delivery_that_was_interrupted_twice_is_sent_after_the_others(database_url: str, now: UnixMs) -> None:
    history = History(database_url, now)
    endpoint = history.endpoint()
    [interrupted] = history.events(endpoint, 1, at=now - 20_000, status="pending")
    [other] = history.events(endpoint, 1, at=now - 10_000, status="pending")
    for worker in ("wrk_1", "wrk_2"):
        assert lease(database_url, worker, endpoint, now) == [interrupted]
        release(database_url, worker, now)
    assert lease(database_url, "wrk_3", endpoint, now, limit=2) == [other, interrupted]


def test_a_worker_that_renews_just_before_a_rescue_keeps_its_leases(database_url: str, now: UnixMs) -> None:
    history = History(database_url, now)
    endpoint = history.endpoint()
    history.events(endpoint, 1, at=now - 20_000, status="pending")
    lease(database_url, "wrk_1", endpoint, now)
    query(database_url, "UPDATE workers SET expires_at = 1")
    with transaction(database_url) as connection:
        assert LeaseTables(connection).expired(now) == ["wrk_1"]
    with transaction(database_url) as connection:
        assert LeaseTables(connection).renew("wrk_1", now=now, ttl_ms=TTL_MS)
    with transaction(database_url) as connection:
        assert LeaseTables(connection).rescue("wrk_1", now) == frozenset()
    assert query(database_url, "SELECT worker FROM leases") == [("wrk_1",)]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[DatabaseDeliveryStore]:
    clock = SystemClock()
    database = open_database(url, clock)
    await database.start()
    try:
        yield DatabaseDeliveryStore(database, VAULT, clock, IdFactory(clock, random.Random(1)))
    finally:
        await database.stop()


@pytest.mark.parametrize(
    "locked_row",
    ["SELECT 1 FROM workers WHERE id = 'wrk_1' FOR SHARE", "SELECT 1 FROM deliveries ORDER BY id LIMIT 1 FOR SHARE"],
)
def test_a_locked_row_delays_only_the_rescue_of_the_worker_that_it_belongs_to(
    databases: Databases, now: UnixMs, locked_row: str
) -> None:
    history = History(databases.fresh("postgres"), now)
    one, other = history.endpoint(), history.endpoint()
    history.events(one, 1, at=now - 20_000, status="pending")
    history.events(other, 1, at=now - 10_000, status="pending")
    for worker, endpoint in (("wrk_1", one), ("wrk_2", other)):
        lease(history.url, worker, endpoint, now)
    query(history.url, "UPDATE workers SET expires_at = 1")

    async def scenario() -> None:
        async with opened(history.url) as store:
            await store.register("wrk_3", ttl_ms=TTL_MS)
            with transaction(history.url) as stopped:
                stopped.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                stopped.execute(locked_row)
                assert await store.rescue("wrk_3") == {other}
                assert await store.renew("wrk_3", ttl_ms=TTL_MS)
            assert await store.rescue("wrk_3") == {one}

    asyncio.run(scenario())
    assert query(history.url, "SELECT COUNT(*) FROM leases") == [(0,)]


def test_the_database_ends_a_transaction_of_a_stopped_worker_before_its_leases_expire(databases: Databases) -> None:
    setting = "SELECT setting::bigint FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"
    [(open_ms,)] = query(databases.fresh("postgres"), setting)
    times = LeaseTimes()
    assert 0 < open_ms < (times.ttl_s - times.renew_s) * MS_PER_S


def test_a_forged_delivery_takes_no_probe(database_url: str, now: UnixMs) -> None:
    """Its outcome would not say whether the endpoint works, and the next probe would wait for half a minute."""
    history = History(database_url, now)
    endpoint = history.endpoint()
    [event] = history.events(endpoint, 1, at=now - 20_000, status="pending")
    query(
        database_url,
        "UPDATE deliveries SET id = ?, fallback_status = 'canceled' WHERE event_id = ?",
        forged_delivery_id(event, endpoint),
        event,
    )
    query(database_url, "INSERT INTO endpoint_health VALUES (?, 9, ?, 1, ?, NULL, 0)", endpoint, now - 9, now - 1)
    with transaction(database_url) as connection:
        LeaseTables(connection).register("wrk_1", host="h", pid=1, now=now, ttl_ms=TTL_MS)
        probe = ClaimRequest(endpoint, 1, ClaimKind.PROBE)
        [claimed] = ClaimTables(connection, VAULT).claim("wrk_1", [probe], now, 0).claimed
    assert (claimed.forged, claimed.probe) == (True, False)
    assert query(database_url, "SELECT probe_at FROM endpoint_health") == [(now - 1,)]
