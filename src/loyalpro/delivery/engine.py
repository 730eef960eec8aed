"""The delivery engine: finds what is due, sends it, and writes down what became of it.

`run` is the whole of it. A survey finds the lanes that have something due; `_claim` leases as much as their lanes have
room for; each claimed delivery then walks through `_deliver`: sign -> send -> classify -> decide -> settle.

Nothing here is the truth. Lanes, hints and times may be lost at any instruction: the next survey finds all of it again.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, Sender, SendResult, classify
from loyalpro.delivery.decide import close_unsent, decide
from loyalpro.delivery.lane import Lane
from loyalpro.delivery.ports import Attempt, Claimed, DeliveryStore, LaneRequest, Settlement, WorkerId
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.settler import Settler
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import MS_PER_S, Clock, UnixMs
from loyalpro.kernel.errors import StoreError

Headers = tuple[tuple[str, str], ...]


class Sign(Protocol):
    """Makes the headers of one attempt, signatures included."""

    def __call__(self, claimed: Claimed, *, timestamp_s: int) -> Headers:
        """`timestamp_s`: Unix seconds of this attempt."""
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
    lane_width: int = 64
    max_in_flight: int = 2_000
    poll_s: float = 1.0
    lease_ttl_s: float = 12.0
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
        self._new_worker_id = new_worker_id
        self._meter = meter
        self._settings = settings
        self._worker: WorkerId = ""
        self._lanes: dict[str, Lane] = {}
        self._hot: dict[str, None] = {}
        self._next_due_at: UnixMs | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._never = asyncio.Event()
        self._settler = Settler(store, clock)
        self._log = structlog.get_logger("delivery")
        self._draining = False
        self.ready = False

    def wake(self, endpoint_ids: Iterable[str]) -> None:
        """A hint, after a commit: these endpoints are owed something new."""
        self._hot.update(dict.fromkeys(endpoint_ids))
        self._wake.set()

    @property
    def in_flight(self) -> int:
        """Deliveries that this process holds now."""
        return len(self._tasks)

    async def run(self) -> None:
        """Deliver until cancelled; then give back what is still held."""
        self._worker = await self._enlist()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._settler.run(), name="settler")
                group.create_task(self._heartbeat(), name="heartbeat")
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
            waiter = asyncio.ensure_future(asyncio.wait(self._tasks))
            waiter.add_done_callback(lambda _: finished.set())
            await self._clock.wait(finished, grace_s)

    # -- finding work ------------------------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        """Claim whatever there is room for; sleep until something changes or falls due."""
        survey_at = self._clock.monotonic_s()
        self.ready = True
        while not self._draining:
            self._wake.clear()
            try:
                if self._clock.monotonic_s() >= survey_at or self._is_due():
                    await self._survey()
                    survey_at = self._clock.monotonic_s() + self._settings.poll_s
                claimed = await self._claim()
            except StoreError as error:
                self._log.warning("claim_failed", code=error.code)
                await self._clock.wait(self._never, 1.0)
                continue
            if not claimed:
                await self._clock.wait(self._wake, self._idle_s(survey_at))

    async def _survey(self) -> None:
        survey = await self._store.survey(self._clock.now_ms())
        self._next_due_at = survey.next_due_at
        self._hot.update(dict.fromkeys(survey.due))

    async def _claim(self) -> int:
        """Lease due deliveries for every hot lane that has room, and send each on its way."""
        now = self._clock.now_ms()
        requests = self._requests(now)
        if not requests:
            return 0
        claimed = await self._store.claim(self._worker, requests, now)
        self._launch(requests, claimed, now)
        return len(claimed)

    def _requests(self, now: UnixMs) -> list[LaneRequest]:
        free = self._settings.max_in_flight - len(self._tasks)
        requests: list[LaneRequest] = []
        for endpoint_id in list(self._hot):
            if free <= 0:
                break
            room = min(self._lane(endpoint_id).room(now), free)
            if room > 0:
                requests.append(LaneRequest(endpoint_id, room))
                free -= room
        return requests

    def _launch(self, requests: list[LaneRequest], claimed: Collection[Claimed], now: UnixMs) -> None:
        by_lane: dict[str, list[Claimed]] = {request.endpoint_id: [] for request in requests}
        for each in claimed:
            by_lane[each.target.endpoint_id].append(each)
        for request in requests:
            got = by_lane[request.endpoint_id]
            lane = self._lane(request.endpoint_id)
            del self._hot[request.endpoint_id]
            lane.more = len(got) == request.room
            if lane.more:
                self._hot[request.endpoint_id] = None  # to the end of the queue: lanes take turns
            if got:
                lane.started(len(got), got[0].target, now)
            for each in got:
                task = asyncio.create_task(self._deliver(each, lane, self._worker), name=each.delivery_id)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        self._meter.in_flight(len(self._tasks))

    def _lane(self, endpoint_id: str) -> Lane:
        lane = self._lanes.get(endpoint_id)
        if lane is None:
            lane = self._lanes[endpoint_id] = Lane(endpoint_id, self._settings.lane_width)
        return lane

    def _is_due(self) -> bool:
        return self._next_due_at is not None and self._next_due_at <= self._clock.now_ms()

    def _idle_s(self, survey_at: float) -> float:
        now = self._clock.now_ms()
        waits_s = [survey_at - self._clock.monotonic_s()]
        if self._next_due_at is not None:
            waits_s.append((self._next_due_at - now) / MS_PER_S)
        for endpoint_id in self._hot:
            bucket = self._lanes[endpoint_id].bucket if endpoint_id in self._lanes else None
            if bucket is not None:
                waits_s.append((bucket.refilled_at(now) - now) / MS_PER_S)
        return max(0.001, min(waits_s))

    # -- one delivery ------------------------------------------------------------------------------------------------

    async def _deliver(self, claimed: Claimed, lane: Lane, worker: WorkerId) -> None:
        """Sign, send, classify, decide, settle."""
        schedule = self._settings.schedule
        try:
            now = self._clock.now_ms()
            if schedule.is_over(claimed.first_attempt_at, now):
                settlement = close_unsent(claimed, now)
            else:
                attempt = await self._attempt(claimed, now)
                settlement = decide(claimed, attempt, now=self._clock.now_ms(), schedule=schedule, chance=self._chance)
            await self._settle(worker, settlement)
        finally:
            self._left(lane)

    async def _attempt(self, claimed: Claimed, now: UnixMs) -> Attempt:
        """Sign and send once. A failure of our own counts as an attempt too: it is retried, and seen."""
        headers: Headers = ()
        try:
            headers = self._sign(claimed, timestamp_s=now // MS_PER_S)
            request = OutgoingRequest(claimed.target.url, headers, claimed.body, self._settings.timeout_s)
            result = await self._sender.send(request)
        except Exception:  # noqa: BLE001 - logged, counted and retried
            self._log.exception("attempt_broke", delivery_id=claimed.delivery_id)
            result = SendResult.broken()
        attempt = Attempt(
            number=claimed.attempt_number,
            started_at=now,
            outcome=classify(result),
            detail=result.detail,
            request_headers=headers,
            response=result.response,
            remote_ip=result.remote_ip,
            timings=result.timings,
        )
        self._meter.attempted(attempt.outcome, result.timings.total_ms)
        return attempt

    async def _settle(self, worker: WorkerId, settlement: Settlement) -> None:
        if not await self._settler.settle(worker, settlement):
            self._meter.fenced()
            self._log.warning("lease_lost", delivery_id=settlement.delivery_id)
        elif settlement.status is DeliveryStatus.PENDING:
            due = settlement.due_at
            self._next_due_at = due if self._next_due_at is None else min(self._next_due_at, due)

    def _left(self, lane: Lane) -> None:
        lane.finished()
        if lane.more or lane.ordered:  # there is room again, or the next of this customer's may go now
            self._hot.setdefault(lane.endpoint_id)
            self._wake.set()

    # -- the lease ---------------------------------------------------------------------------------------------------

    async def _enlist(self) -> WorkerId:
        pause_s = 0.1
        while True:
            worker = self._new_worker_id()
            try:
                await self._store.register(worker, ttl_ms=self._ttl_ms)
                self.wake(await self._store.rescue(worker))
            except StoreError as error:
                self._log.warning("register_failed", code=error.code)
                await self._clock.wait(self._never, pause_s)
                pause_s = min(pause_s * 2, 5.0)
                continue
            return worker

    async def _heartbeat(self) -> None:
        """Keep our leases alive, and free those of workers that have fallen silent."""
        while True:
            await self._clock.wait(self._never, self._settings.lease_ttl_s / 4)
            try:
                if not await self._store.renew(self._worker, ttl_ms=self._ttl_ms):
                    self._log.warning("leases_taken", worker=self._worker)
                    self._worker = await self._enlist()
                self.wake(await self._store.rescue(self._worker))
            except StoreError as error:
                self._log.warning("heartbeat_failed", code=error.code)

    @property
    def _ttl_ms(self) -> int:
        return round(self._settings.lease_ttl_s * MS_PER_S)

    async def _abandon(self) -> None:
        """Cancel what is still on its way and free it: it goes out again, from here or elsewhere, with the same id."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._store.release(self._worker)
        except StoreError as error:
            self._log.warning("release_failed", code=error.code)
