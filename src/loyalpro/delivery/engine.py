"""The delivery engine: it finds the deliveries that are due, sends them, and writes their outcomes.

`Engine.run` is its entry. The dispatcher asks the endpoint queues what may be sent now, and leases it; each delivery that was
leased then goes through `Engine._deliver`: sign -> send -> classify -> decide -> settle.

The database holds all state that counts. Queues, hints and timers may be lost at any instruction: the next backlog scan
finds all pending deliveries again.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from loyalpro.delivery.attempt import Sender
from loyalpro.delivery.attempt_log import AttemptLog
from loyalpro.delivery.attempt_runner import AttemptRunner
from loyalpro.delivery.claims import Claimed
from loyalpro.delivery.decide import close_unsent, decide
from loyalpro.delivery.endpoint_queues import Bounds, EndpointQueues
from loyalpro.delivery.ports import DeliveryStore, Metrics, Sign, WorkerId
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.settlement import Attempt, Settled, Settlement
from loyalpro.delivery.settlement_writer import SettlementWriter
from loyalpro.delivery.slot import Slot
from loyalpro.delivery.worker_registration import LeaseTimes, WorkerRegistration
from loyalpro.kernel.clock import MS_PER_S, Clock
from loyalpro.kernel.errors import StoreError

_PAUSE_S = 0.5
_PAUSE_AFTER_CRASH_S = 60.0
_MAX_UNSETTLED = 1_000
"""While more outcomes than this wait for the database, nothing is claimed: a crash would repeat all of their requests."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The limits of the engine. `timeout_s`: for one attempt. `poll_s`: how often to scan for the backlog.

    Deliveries that this process creates are found at once; the scan finds those that other processes create.
    """

    timeout_s: float = 30.0
    poll_s: float = 1.0
    bounds: Bounds = field(default_factory=Bounds)
    leases: LeaseTimes = field(default_factory=LeaseTimes)
    schedule: RetrySchedule = field(default_factory=RetrySchedule)


class Engine:
    """Delivers until it is canceled. A process has one."""

    def __init__(
        self,
        *,
        store: DeliveryStore,
        sender: Sender,
        sign: Sign,
        clock: Clock,
        rng: random.Random,
        new_worker_id: Callable[[], WorkerId],
        metrics: Metrics,
        settings: EngineSettings,
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._settings = settings
        self._schedule = settings.schedule
        self._queues = EndpointQueues(settings.bounds)
        self._runner = AttemptRunner(
            sender=sender,
            sign=sign,
            clock=clock,
            metrics=metrics,
            timeout_s=settings.timeout_s,
            on_repeat=self._queues.requested_again,
        )
        self._registration = WorkerRegistration(store, clock, new_worker_id, self.wake, settings.leases)
        self._writer = SettlementWriter(store, clock, self._on_settled, longest_probe_s=self._schedule.longest_wait_s)
        self._tasks: set[asyncio.Task[bool]] = set()
        self._wake = asyncio.Event()
        self._never = asyncio.Event()
        self._log = structlog.get_logger("delivery")
        self._attempt_log = AttemptLog(clock)
        self._draining = False
        self._may_have_unknown_leases = False
        self.ready = False

    # -- life cycle --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until canceled; then release all leases that are still held."""
        await self._registration.register()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._writer.run(), name="settlement writer")
                group.create_task(self._registration.run(), name="worker registration")
                group.create_task(self._scan_loop(), name="backlog scan")
                group.create_task(self._dispatch_loop(), name="dispatcher")
        finally:
            self.ready = False
            await self._abandon()
            self._attempt_log.end_window()

    def wake(self, endpoint_ids: Iterable[str], *, urgent: bool = False) -> None:
        """Hint, after a commit, that these endpoints have new deliveries.

        `urgent`: one of them is a manual attempt, which no breaker may hold back.
        """
        self._queues.hint(sorted(endpoint_ids), self._clock.now_ms(), urgent=urgent)
        self._wake.set()

    @property
    def in_flight(self) -> int:
        """How many deliveries this process holds, including those whose outcomes are not durable yet."""
        return len(self._tasks)

    async def drain(self, grace_s: float) -> None:
        """Claim nothing more, and wait up to `grace_s` seconds for the deliveries that this process holds."""
        self.ready = False
        self._draining = True
        self._wake.set()
        if self._tasks:
            finished = asyncio.Event()
            waiter = asyncio.ensure_future(asyncio.wait(set(self._tasks)))  # a copy: the set becomes empty meanwhile
            waiter.add_done_callback(lambda _: finished.set())
            await self._clock.wait(finished, grace_s)

    async def _abandon(self) -> None:
        """Cancel the deliveries in flight and release their leases: they are sent again, with the same event ids."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._registration.leave()

    # -- finding work ------------------------------------------------------------------------------------------------

    async def _scan_loop(self) -> None:
        """Scan the backlog again and again, page by page. The pauses between pages leave half of the time for claims."""
        after = ""
        while True:
            began_s = self._clock.monotonic_s()
            try:
                after = await self._scan_page(after)
            except StoreError as error:
                self._log.debug("backlog_scan_failed", code=error.code)
                await self._clock.wait(self._never, _PAUSE_S)
            except Exception:  # noqa: BLE001 - a programming error must not end all deliveries
                self._log.exception("backlog_scan_crashed")
                await self._clock.wait(self._never, _PAUSE_S)
            else:
                pause_s = self._clock.monotonic_s() - began_s if after else self._settings.poll_s
                await self._clock.wait(self._never, pause_s)

    async def _scan_page(self, after: str) -> str:
        """Read the page of endpoints that come after `after`; return the last one that it covers, "" at the end."""
        now = self._clock.now_ms()
        if not after:
            self._queues.begin_scan()
        page = await self._store.scan_backlog(now, after=after, closing_since=self._schedule.closing_since(now))
        self._queues.add_page(page, self._clock.now_ms())
        self._attempt_log.flush()
        if page.until is None:
            self._metrics.oldest_due(self._queues.lag.oldest)
        self._wake.set()
        return page.until or ""

    async def _dispatch_loop(self) -> None:
        """Claim as many deliveries as the limits allow; then sleep until something changes or is due."""
        self.ready = True
        while not self._draining:
            self._wake.clear()
            try:
                asked = await self._claim()
            except StoreError as error:
                self._log.debug("claim_failed", code=error.code)
                self._may_have_unknown_leases = True
                await self._clock.wait(self._never, _PAUSE_S)
                continue
            except Exception:  # noqa: BLE001 - a programming error must not end all deliveries
                self._log.exception("claim_crashed")
                self._may_have_unknown_leases = True
                await self._clock.wait(self._never, _PAUSE_S)
                continue
            if not asked:
                await self._clock.wait(self._wake, self._idle_s())

    async def _claim(self) -> int:
        """Lease due deliveries of the queues whose turn it is, and start each; return how many queues were asked."""
        now, worker = self._clock.now_ms(), self._registration.worker
        if self._may_have_unknown_leases:  # a claim may have been committed although its result was lost
            await self._store.release_unknown(worker, keep=[task.get_name() for task in self._tasks])
            self._may_have_unknown_leases = False
        if unknown := self._queues.unknown():
            self._queues.introduce(unknown, await self._store.targets(unknown, now), self._clock.now_ms())
        unsettled = len(self._tasks) - self._queues.in_flight
        requests = self._queues.requests(now) if unsettled < _MAX_UNSETTLED else []
        if not requests:
            return 0
        result = await self._store.claim(worker, requests, now, closing_since=self._schedule.closing_since(now))
        self._queues.claimed(requests, result, self._clock.now_ms())
        for each in result.claimed:
            self._start(each, worker)
        self._metrics.in_flight(len(self._tasks))
        return len(requests)

    def _idle_s(self) -> float:
        now = self._clock.now_ms()
        next_at = self._queues.next_at(now)
        return self._settings.poll_s if next_at is None else max(0.001, (next_at - now) / MS_PER_S)

    # -- one delivery ------------------------------------------------------------------------------------------------

    def _start(self, claimed: Claimed, worker: WorkerId) -> None:
        task = asyncio.create_task(self._run_delivery(claimed, worker), name=claimed.delivery_id)
        self._tasks.add(task)
        task.add_done_callback(self._on_finished)

    def _on_finished(self, task: asyncio.Task[bool]) -> None:
        self._tasks.discard(task)
        if not (task.cancelled() or task.result()):
            self._may_have_unknown_leases = True
            self._wake.set()
        if not self._tasks:
            self._metrics.in_flight(0)

    async def _run_delivery(self, claimed: Claimed, worker: WorkerId) -> bool:
        """Deliver; False when the delivery may still be leased.

        After an unexpected error the delivery stays leased for a while, so that it is not sent again in a tight loop.
        """
        try:
            return await self._deliver(claimed, worker)
        except Exception:  # noqa: BLE001 - a programming error must not end the delivery for good
            self._log.exception("delivery_crashed", delivery_id=claimed.delivery_id)
            await self._clock.wait(self._never, _PAUSE_AFTER_CRASH_S)
            return False

    async def _deliver(self, claimed: Claimed, worker: WorkerId) -> bool:
        """Sign -> send -> classify -> decide -> settle; False when the lease no longer held and nothing was written."""
        async with Slot(self._queues, claimed, self._clock, self._wake.set) as slot:
            if not await self._registration.holds(worker):
                return True  # after a long pause of this process: another worker has rescued the delivery
            attempt, secret = await self._attempt(claimed)  # sign -> send -> classify
            settlement = self._decide(claimed, attempt, secret)
            slot.answered(settlement)
            held = await self._writer.settle(worker, settlement)
            slot.settled(settlement)
        if held and not claimed.forged:
            self._metrics.settled(settlement)
            self._attempt_log.settled(settlement)
        elif not held:
            self._metrics.fenced()
            self._log.warning("lease_lost", delivery_id=claimed.delivery_id)
        return held

    async def _attempt(self, claimed: Claimed) -> tuple[Attempt | None, int | None]:
        """Return the attempt, None if the retry window has closed, and the index of the secret that was accepted.

        The index is None unless the receiver refused the primary secret and then accepted another one.
        """
        if claimed.fallback is None and self._schedule.is_over(claimed.first_attempt_at, self._clock.now_ms()):
            return None, None
        return await self._runner.run(claimed)

    def _decide(self, claimed: Claimed, attempt: Attempt | None, secret: int | None) -> Settlement:
        now = self._clock.now_ms()
        if attempt is None:
            return close_unsent(claimed, now)
        return decide(claimed, attempt, now=now, schedule=self._schedule, rng=self._rng, secret=secret)

    def _on_settled(self, settled: Settled) -> None:
        """Take over the health that settlements have changed, and log the notices that they have written."""
        self._queues.health_changed(settled.health, self._clock.now_ms())
        for notice in settled.notices:
            self._log.warning(notice.kind, endpoint_id=notice.endpoint_id, account_id=notice.account_id)
