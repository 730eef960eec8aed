"""A PostgreSQL transaction that commits long after its client lost the connection, or never, while others read and write.

The client cannot know the outcome, so the program has to be correct for both.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.claims import Claimed, ClaimRequest
from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.events.new_event import NewEvent
from loyalpro.events.samples import sample
from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import CommitUnknown, StoreError
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.open import open_database
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, UnitOfWork
from support.databases import Databases
from support.history import ACCOUNT, VAULT, History, query
from support.proxy import CuttingProxy
from support.rivals import is_lock_awaited
from support.units import runner_on

CLOCK = SystemClock()
IDS = IdFactory(CLOCK, random.Random(7))
TTL_MS = 60_000


@pytest.fixture
def history(databases: Databases) -> History:
    return History(databases.fresh("postgres"), CLOCK.now_ms())


@asynccontextmanager
async def opened(url: str) -> Any:
    database = open_database(url, CLOCK)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


def emit(mark: str) -> Callable[[UnitOfWork], str]:
    def work(unit: UnitOfWork) -> str:
        data = sample("points.redeemed", unit.now) | {"code": mark}
        unit.outbox.emit(NewEvent(ACCOUNT, "points.redeemed", None, None, data))
        return mark

    return work


class Poller:
    """Reads the list of events from the start, 7 at a time."""

    def __init__(self, runner: DatabaseUnitOfWorkRunner) -> None:
        self._runner = runner
        self.seen: list[str] = []

    async def poll(self) -> bool:
        last = self.seen[-1] if self.seen else None
        found = await self._runner.read(lambda unit: unit.events.list_after(ACCOUNT, last, 7))
        self.seen += [each.id for each in found]
        return bool(found)

    async def catch_up(self) -> list[str]:
        while await self.poll():
            pass
        return self.seen


@pytest.mark.parametrize("commits", [True, False])
def test_a_poller_skips_no_event_of_a_late_commit(history: History, *, commits: bool) -> None:
    async def scenario() -> None:
        with CuttingProxy(history.url) as proxy:
            async with AsyncExitStack() as stack:
                cut, *others = [
                    runner_on(await stack.enter_async_context(opened(url)), seed)
                    for seed, url in enumerate((proxy.url, history.url, history.url))
                ]
                poller = Poller(others[0])
                await asyncio.gather(*(each.change(emit("before")) for each in others for _ in range(5)))
                assert len(await poller.catch_up()) == 10
                proxy.hold_commit()
                with pytest.raises(CommitUnknown):
                    await cut.change(emit("late"))
                await asyncio.gather(*(each.change(emit("after")) for each in others for _ in range(10)))
                assert not await poller.poll(), (
                    "later events wait for the open transaction, whose event would sort before them"
                )
                proxy.end_held(commits=commits)
                expected = 30 + commits
                while len(await poller.catch_up()) < expected:
                    await asyncio.gather(*(each.change(emit("more")) for each in others))
                    expected += len(others)
                await poller.catch_up()
                complete = await Poller(others[1]).catch_up()
                assert poller.seen == complete
                assert len(set(complete)) == len(complete) == expected
        late = query(history.url, "SELECT COUNT(*) FROM events WHERE convert_from(body, 'UTF8') LIKE '%\"late\"%'")
        assert late == [(int(commits),)]

    asyncio.run(scenario())


def store(database: Any) -> DatabaseDeliveryStore:
    return DatabaseDeliveryStore(database, VAULT, CLOCK, IDS)


async def claim(deliveries: DatabaseDeliveryStore, worker: str, endpoint: str) -> list[Claimed]:
    found = await deliveries.claim(worker, [ClaimRequest(endpoint, 5)], CLOCK.now_ms(), closing_since=0)
    return list(found.claimed)


async def settle(deliveries: DatabaseDeliveryStore, worker: str, claimed: Claimed) -> frozenset[str]:
    now = CLOCK.now_ms()
    attempt = Attempt(claimed.attempt_number, now, OutcomeCode.SUCCEEDED, "", (), None, None, None)
    settlement = Settlement(claimed, DeliveryStatus.SUCCEEDED, now, attempt)
    return (await deliveries.settle(worker, [settlement], now, longest_probe_s=1.0)).held


async def retry_until_done(act: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat until the database succeeds, as the engine does."""
    while True:
        with suppress(StoreError):
            return await act()


async def lock_is_awaited(history: History) -> None:
    """Return when a transaction waits for a lock of another one."""
    while not await asyncio.to_thread(is_lock_awaited, history.url):
        pass


def with_proxy(
    history: History, scenario: Callable[[CuttingProxy, Any, DatabaseDeliveryStore, str], Awaitable[None]]
) -> None:
    """Run a scenario with a worker behind a proxy, a worker with a direct connection, and one pending delivery."""

    async def main() -> None:
        endpoint = history.endpoint()
        history.events(endpoint, 1, at=history.now - 1_000, status="pending")
        with CuttingProxy(history.url) as proxy:
            async with opened(proxy.url) as cut, opened(history.url) as good:
                await store(cut).register("wrk_cut", ttl_ms=TTL_MS)
                await store(good).register("wrk_good", ttl_ms=TTL_MS)
                await scenario(proxy, store(cut), store(good), endpoint)
        assert query(history.url, "SELECT status, attempts FROM deliveries") == [("succeeded", 1)]
        assert query(history.url, "SELECT number, outcome FROM attempts") == [(1, "succeeded")]
        assert query(history.url, "SELECT COUNT(*) FROM leases") == [(0,)]

    asyncio.run(main())


@pytest.mark.parametrize("commits", [True, False])
def test_a_settlement_with_a_late_commit_is_written_once(history: History, *, commits: bool) -> None:
    async def scenario(proxy: CuttingProxy, cut: Any, good: DatabaseDeliveryStore, endpoint: str) -> None:
        [claimed] = await claim(cut, "wrk_cut", endpoint)
        proxy.hold_commit()
        with pytest.raises(CommitUnknown):
            await settle(cut, "wrk_cut", claimed)
        again = asyncio.create_task(retry_until_done(lambda: settle(cut, "wrk_cut", claimed)))
        assert await claim(good, "wrk_good", endpoint) == [], (
            "the delivery is leased or finished, so no worker can claim it"
        )
        await lock_is_awaited(history)
        proxy.end_held(commits=commits)
        assert await again == (frozenset() if commits else {claimed.delivery_id})

    with_proxy(history, scenario)


@pytest.mark.parametrize("commits", [True, False])
def test_a_claim_with_a_late_commit_leaves_no_unknown_lease(history: History, *, commits: bool) -> None:
    async def scenario(proxy: CuttingProxy, cut: Any, good: DatabaseDeliveryStore, endpoint: str) -> None:
        proxy.hold_commit()
        with pytest.raises(CommitUnknown):
            await claim(cut, "wrk_cut", endpoint)
        freed = asyncio.create_task(retry_until_done(lambda: cut.release_unknown("wrk_cut", keep=[])))
        assert await claim(good, "wrk_good", endpoint) == [], "a transaction that may still commit has locked its row"
        await lock_is_awaited(history)
        proxy.end_held(commits=commits)
        await freed
        [claimed] = await claim(good, "wrk_good", endpoint)
        assert await settle(good, "wrk_good", claimed) == {claimed.delivery_id}

    with_proxy(history, scenario)
