"""The delivery engine: finds what is due, sends it, and writes down what became of it.

`run` is the whole of it. The dispatcher asks the lanes what may be sent now and leases it; each claimed delivery then
walks through `_deliver`: sign -> send -> classify -> decide -> settle.

Nothing here is the truth. Lanes, hints and times may be lost at any instruction: the next survey finds all of it again.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, Sender, SendResult, classify
from loyalpro.delivery.claims import Claimed
from loyalpro.delivery.decide import close_unsent, decide, refuses_signature
from loyalpro.delivery.lanes import Bounds, Lanes
from loyalpro.delivery.membership import LeaseTimes, Membership
from loyalpro.delivery.ports import DeliveryStore, WorkerId
from loyalpro.delivery.rotation import others
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.settlement import Attempt, Settled, Settlement
from loyalpro.delivery.settler import Settler
from loyalpro.kernel.clock import MS_PER_S, Clock, UnixMs
from loyalpro.kernel.errors import StoreError

Headers = tuple[tuple[str, str], ...]
_PAUSE_S = 0.5
_REST_S = 60.0
_MOST_UNSETTLED = 1_000
"""While so many outcomes wait for the database, nothing more is started: they are what a crash would repeat."""


class Sign(Protocol):
    """Makes the headers of one attempt, signatures included."""

    def __call__(self, claimed: Claimed, *, timestamp_s: int, primary: int) -> Headers:
        """`timestamp_s`: Unix seconds of this attempt. `primary`: which secret signs where only one can."""
        ...


class Meter(Protocol):
    """Where the engine reports what it did."""

    def attempted(self, outcome: OutcomeCode, total_ms: float) -> None:
        """One attempt ended."""
        ...

    def fenced(self) -> None:
        """One settlement came too late: the lease was no longer ours."""
        ...

    def in_flight(self, count: int) -> None:
        """So many deliveries are on their way."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The engine's bounds. `poll_s`: how often to look for work that another process committed."""

    timeout_s: float = 30.0
    poll_s: float = 1.0
    bounds: Bounds = field(default_factory=Bounds)
    leases: LeaseTimes = field(default_factory=LeaseTimes)
    schedule: RetrySchedule = field(default_factory=RetrySchedule)


class Engine:
    """Delivers until told to stop. One for each process."""

    def __init__(
        self,
        *,
        store: DeliveryStore,
        sender: Sender,
        sign: Sign,
        clock: Clock,
        chance: random.Random,
        new_worker_id: Callable[[], WorkerId],
        meter: Meter,
        settings: EngineSettings,
    ) -> None:
        self._store = store
        self._sender = sender
        self._sign = sign
        self._clock = clock
        self._chance = chance
        self._meter = meter
        self._settings = settings
        self._schedule = settings.schedule
        self._lanes = Lanes(settings.bounds)
        self._membership = Membership(store, clock, new_worker_id, self.wake, settings.leases)
        self._settler = Settler(store, clock, self._learn, longest_probe_s=self._schedule.longest_wait_s)
        self._tasks: set[asyncio.Task[bool]] = set()
        self._wake = asyncio.Event()
        self._never = asyncio.Event()
        self._log = structlog.get_logger("delivery")
        self._draining = False
        self._in_doubt = False
        self.ready = False

    def wake(self, endpoint_ids: Iterable[str], *, urgent: bool = False) -> None:
        """A hint, after a commit: these endpoints are owed something new. `urgent`: by hand, past any breaker."""
        self._lanes.hint(sorted(endpoint_ids), self._clock.now_ms(), urgent=urgent)
        self._wake.set()

    @property
    def in_flight(self) -> int:
        """Deliveries that this process holds now."""
        return len(self._tasks)

    async def run(self) -> None:
        """Deliver until cancelled; then give back what is still held."""
        await self._membership.enlist()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._settler.run(), name="settler")
                group.create_task(self._membership.run(), name="membership")
                group.create_task(self._look_around(), name="surveyor")
                group.create_task(self._dispatch(), name="dispatcher")
        finally:
            self.ready = False
            await self._abandon()

    async def drain(self, grace_s: float) -> None:
        """Take no more work, and wait up to `grace_s` seconds for what is on its way."""
        self.ready = False
        self._draining = True
        self._wake.set()
        if self._tasks:
            finished = asyncio.Event()
            waiter = asyncio.ensure_future(asyncio.wait(set(self._tasks)))  # those of now: later there may be none
            waiter.add_done_callback(lambda _: finished.set())
            await self._clock.wait(finished, grace_s)

    # -- finding work ------------------------------------------------------------------------------------------------

    async def _look_around(self) -> None:
        """Survey all lanes, again and again. Page by page, at half speed: what is due meanwhile must not wait for it."""
        after = ""
        while True:
            began_s = self._clock.monotonic_s()
            try:
                after = await self._survey(after)
            except StoreError as error:
                self._log.warning("survey_failed", code=error.code)
                await self._clock.wait(self._never, _PAUSE_S)
            except Exception:  # noqa: BLE001 - a mistake of ours must not end all deliveries
                self._log.exception("survey_broke")
                await self._clock.wait(self._never, _PAUSE_S)
            else:
                pause_s = self._clock.monotonic_s() - began_s if after else self._settings.poll_s
                await self._clock.wait(self._never, pause_s)

    async def _survey(self, after: str) -> str:
        """Look at the lanes that come after this one; up to which, or nothing when that were all."""
        now = self._clock.now_ms()
        if not after:
            self._lanes.surveying()
        survey = await self._store.scan_backlog(now, after=after, closing_since=self._schedule.closing_since(now))
        self._lanes.survey(survey, self._clock.now_ms())
        self._wake.set()
        return survey.until or ""

    async def _dispatch(self) -> None:
        """Claim whatever there is room for; sleep until something changes or falls due."""
        self.ready = True
        while not self._draining:
            self._wake.clear()
            try:
                asked = await self._claim()
            except StoreError as error:
                self._log.warning("claim_failed", code=error.code)
                self._in_doubt = True
                await self._clock.wait(self._never, _PAUSE_S)
                continue
            except Exception:  # noqa: BLE001 - a mistake of ours must not end all deliveries
                self._log.exception("dispatch_broke")
                self._in_doubt = True
                await self._clock.wait(self._never, _PAUSE_S)
                continue
            if not asked:
                await self._clock.wait(self._wake, self._idle_s())

    async def _claim(self) -> int:
        """Lease due deliveries for the lanes whose turn it is, and send each on its way; how many lanes were asked."""
        now, worker = self._clock.now_ms(), self._membership.worker
        if self._in_doubt:  # a claim may have been committed although we never heard of it
            await self._store.release_unknown(worker, keep=[task.get_name() for task in self._tasks])
            self._in_doubt = False
        if unknown := self._lanes.unknown():
            self._lanes.introduce(unknown, await self._store.targets(unknown, now), self._clock.now_ms())
        unsettled = len(self._tasks) - self._lanes.in_flight
        requests = self._lanes.requests(now) if unsettled < _MOST_UNSETTLED else []
        if not requests:
            return 0
        claims = await self._store.claim(worker, requests, now, closing_since=self._schedule.closing_since(now))
        self._lanes.claimed(requests, claims, self._clock.now_ms())
        for each in claims.claimed:
            task = asyncio.create_task(self._see_through(each, worker), name=each.delivery_id)
            self._tasks.add(task)
            task.add_done_callback(self._left)
        self._meter.in_flight(len(self._tasks))
        return len(requests)

    def _left(self, task: asyncio.Task[bool]) -> None:
        self._tasks.discard(task)
        if not (task.cancelled() or task.result()):
            self._in_doubt = True
            self._wake.set()
        if not self._tasks:
            self._meter.in_flight(0)

    def _idle_s(self) -> float:
        now = self._clock.now_ms()
        next_at = self._lanes.next_at(now)
        return self._settings.poll_s if next_at is None else max(0.001, (next_at - now) / MS_PER_S)

    # -- one delivery ------------------------------------------------------------------------------------------------

    async def _see_through(self, claimed: Claimed, worker: WorkerId) -> bool:
        """Deliver. What a mistake of ours breaks off rests, and comes again: not as fast as it can be sent.

        False: it may still be leased, and nobody knows.
        """
        try:
            return await self._deliver(claimed, worker)
        except Exception:  # noqa: BLE001 - a mistake of ours must not hold the delivery back
            self._log.exception("delivery_broke", delivery_id=claimed.delivery_id)
            await self._clock.wait(self._never, _REST_S)
            return False

    async def _deliver(self, claimed: Claimed, worker: WorkerId) -> bool:
        """Sign, send, classify, decide, settle; whether that is durable, or somebody else's by now.

        The lane has its place back as soon as the endpoint has answered.
        """
        place = self._lanes.place(claimed)
        try:
            if not await self._membership.holds(worker):
                return True  # this process slept, and somebody else has it by now
            settlement = await self._attempt(claimed)
            if not claimed.probe:  # after a probe, nothing goes before it is known how it went
                place.free(self._clock.now_ms(), succeeded=settlement.succeeded)
                self._wake.set()
            held = await self._settler.settle(worker, settlement)
            place.free(self._clock.now_ms(), succeeded=settlement.succeeded)
            self._lanes.settled(settlement, self._clock.now_ms())
        finally:
            place.leave(self._clock.now_ms())
            self._wake.set()
        if not held:
            self._meter.fenced()
            self._log.warning("lease_lost", delivery_id=claimed.delivery_id)
        return held

    async def _attempt(self, claimed: Claimed) -> Settlement:
        """One attempt and what follows from it. A receiver that refuses one secret is shown the others at once."""
        now = self._clock.now_ms()
        if claimed.fallback is None and self._schedule.is_over(claimed.first_attempt_at, now):
            return close_unsent(claimed, now)
        attempt = await self._send(claimed, now, claimed.target.primary, self._settings.timeout_s)
        secret = None
        if refuses_signature(attempt):
            attempt, secret = await self._show_others(claimed, attempt)
        end = self._clock.now_ms()
        return decide(claimed, attempt, now=end, schedule=self._schedule, chance=self._chance, secret=secret)

    async def _show_others(self, claimed: Claimed, refused: Attempt) -> tuple[Attempt, int | None]:
        """The same attempt, signed with one other secret after another until one is accepted, or the time is over."""
        target = claimed.target
        for secret in others(len(target.secrets), target.primary, claimed.attempt_number):
            left_s = self._left_s(refused)
            if left_s <= 0:
                break
            self._lanes.spent(target.endpoint_id)
            again = await self._send(claimed, refused.started_at, secret, left_s)
            if again.outcome is OutcomeCode.SUCCEEDED:
                return again, secret
            if not refuses_signature(again):
                break
        return refused, None

    def _left_s(self, attempt: Attempt) -> float:
        return self._settings.timeout_s - (self._clock.now_ms() - attempt.started_at) / MS_PER_S

    async def _send(self, claimed: Claimed, started_at: UnixMs, primary: int, timeout_s: float) -> Attempt:
        """Sign and send once. A failure of our own counts as an attempt too: it is retried, and seen."""
        headers: Headers = ()
        try:
            headers = self._sign(claimed, timestamp_s=self._clock.now_ms() // MS_PER_S, primary=primary)
            result = await self._sender.send(OutgoingRequest(claimed.target.url, headers, claimed.body, timeout_s))
        except Exception:  # noqa: BLE001 - logged, counted and retried
            self._log.exception("attempt_broke", delivery_id=claimed.delivery_id)
            result = SendResult.broken()
        outcome = classify(result)
        self._meter.attempted(outcome, result.timings.total_ms)
        return Attempt(
            number=claimed.attempt_number,
            started_at=started_at,
            outcome=outcome,
            detail=result.detail,
            request_headers=headers,
            response=result.response,
            remote_ip=result.remote_ip,
            timings=result.timings,
        )

    def _learn(self, settled: Settled) -> None:
        """What a settlement has shown of the endpoints; their owners are told, and so is the log."""
        self._lanes.learned(settled.health, self._clock.now_ms())
        for notice in settled.notices:
            self._log.warning(notice.kind, endpoint_id=notice.endpoint_id, account_id=notice.account_id)

    async def _abandon(self) -> None:
        """Cancel what is still on its way and free it: it goes out again, from here or elsewhere, with the same id."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._membership.leave()
