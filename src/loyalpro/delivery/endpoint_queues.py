"""All endpoint queues of this process: what it knows of pending deliveries. The backlog scan corrects it by the database.

Each change ends in `_place`: a queue is ready to be asked (`admission`), or has a timer (`timers`), or waits for an event.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from loyalpro.delivery.admission import QUEUES_PER_TURN, Admission
from loyalpro.delivery.breaker import Health
from loyalpro.delivery.claims import BacklogPage, ClaimRequest, ClaimResult, EndpointBacklog, Target
from loyalpro.delivery.destinations import Destinations
from loyalpro.delivery.endpoint_queue import Destination, EndpointQueue
from loyalpro.delivery.hints import Hints
from loyalpro.delivery.lag import Lag
from loyalpro.delivery.settlement import Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.delivery.timers import Timers, coalesced
from loyalpro.kernel.clock import UnixMs


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many deliveries may be in flight at once: in all, to one endpoint, to one host. Workers share the last two.

    `idle_queues`: queues without pending deliveries are kept while there are no more queues than that.
    """

    in_flight: int = 5_000
    endpoint_width: int = 64
    host_width: int = 256
    idle_queues: int = 10_000


class EndpointQueues:
    """The queues by endpoint id, and the calls by which the engine keeps them up to date."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._share = 1
        self._queues: dict[str, EndpointQueue] = {}
        self._destinations = Destinations(bounds.host_width)
        self._hints = Hints()
        self._timers = Timers(self._queues)
        self._admission = Admission(bounds.in_flight)
        self.lag = Lag()

    @property
    def in_flight(self) -> int:
        """How many deliveries hold a slot."""
        return self._admission.in_flight

    # -- finding work ------------------------------------------------------------------------------------------------

    def hint(self, endpoint_ids: Iterable[str], now: UnixMs, *, urgent: bool = False) -> None:
        """Note that the endpoints have new deliveries; `urgent`: at least one is manual, and no breaker may hold it back."""
        for endpoint_id in endpoint_ids:
            self._hints.changed(endpoint_id)
            queue = self._queues.get(endpoint_id)
            if queue is None:
                self._hints.add_unknown(endpoint_id, urgent=urgent)
            else:
                queue.due_at = now
                queue.urgent |= urgent
                self._hints.due(endpoint_id, now, urgent=urgent)
                self._place(queue, now)

    def unknown(self) -> list[str]:
        """Return endpoints that have new deliveries and no queue: `introduce` needs their targets."""
        return self._hints.unknown(QUEUES_PER_TURN)

    def introduce(self, endpoint_ids: Iterable[str], targets: Mapping[str, Target], now: UnixMs) -> None:
        """Make queues for unknown endpoints. An endpoint without a target is not enabled, and is dropped."""
        for endpoint_id in endpoint_ids:
            urgent = self._hints.take_unknown(endpoint_id)
            if endpoint_id in targets:
                queue = self._refresh(targets[endpoint_id], now)
                queue.due_at, queue.urgent = now, bool(urgent)
                self._place(queue, now)

    def begin_scan(self) -> None:
        """A backlog scan begins to read now. It may miss what changes from now on."""
        self._hints.begin_scan()
        self.lag.begin_scan()

    def add_page(self, page: BacklogPage, now: UnixMs) -> None:
        """Take over one page of the backlog scan; after the last page, drop idle queues if there are too many."""
        self._set_share(max(1, page.workers), now)
        self.hint(page.urgent, now, urgent=True)
        for backlog in page.endpoints:
            queue = self._refresh(backlog.target, now)
            if backlog.due_at <= now:
                self.lag.add(queue.waits_for(now), backlog.due_at)
            self._correct(queue, backlog, now)
            self._place(queue, now)
        if page.until is None:
            self.lag.end_scan()
            self._drop_idle_queues()

    def requests(self, now: UnixMs) -> list[ClaimRequest]:
        """Return what to claim now, in fair turns: at most one request for each endpoint. `claimed` must follow."""
        self._hints.begin_claim()
        self._fire_timers(now)
        requests, refused = self._admission.take_turn(now)
        for queue in refused:
            self._defer(queue, now)
        return requests

    def next_at(self, now: UnixMs) -> UnixMs | None:
        """Return when `requests` may have something next, as far as is known; None when that depends on what happens."""
        if self._hints.has_unknown:
            return now
        if self._admission.has_ready:
            return now if self._admission.has_free_slot else None
        times = (self._timers.next_at, self._admission.retry_at)
        return min((at for at in times if at is not None), default=None)

    # -- deliveries in flight ----------------------------------------------------------------------------------------

    def claimed(self, requests: Sequence[ClaimRequest], result: ClaimResult, now: UnixMs) -> None:
        """Count the deliveries that were leased. An endpoint whose request was filled has more due deliveries."""
        counts = Counter(each.target.endpoint_id for each in result.claimed)
        for request in requests:
            target = result.targets.get(request.endpoint_id)
            if target is None:
                self._disabled(request.endpoint_id, now)
                continue
            queue, count = self._refresh(target, now), counts[request.endpoint_id]
            filled = count >= request.limit
            due_at, urgent = self._hints.due_since_claim(request.endpoint_id)
            queue.due_at = now if filled or queue.urgent else due_at
            queue.urgent = (queue.urgent and filled) or urgent
            self._start(queue, count, now)
            self._place(queue, now)
        self._admission.unused(sum(each.limit for each in requests) - len(result.claimed))

    def requested_again(self, endpoint_id: str) -> None:
        """A delivery sends a second request: it counts against the rate limit too."""
        queue = self._queues[endpoint_id]
        if queue.bucket is not None:
            queue.bucket.take(1)

    def slot_freed(self, endpoint_id: str, now: UnixMs, *, succeeded: bool | None) -> None:
        """One delivery of the endpoint is no longer in flight: others may start. `succeeded`: see `EndpointQueue.finished`."""
        queue = self._queues[endpoint_id]
        self._admission.finished(queue)
        queue.finished(now, succeeded=succeeded)
        self._place(queue, now)
        self._admit_waiting(queue.destination, now)

    def settled(self, settlement: Settlement, now: UnixMs) -> None:
        """The outcome of a delivery is durable: it may be due again, or the next one of its customer may be due."""
        claimed = settlement.claimed
        queue = self._queues[claimed.target.endpoint_id]
        self._hints.changed(queue.endpoint_id)
        due_at = settlement.due_at if settlement.status is DeliveryStatus.PENDING else None
        if claimed.customer_id is not None:
            due_at = now
        if due_at is not None:
            queue.due_at = due_at if queue.due_at is None else min(queue.due_at, due_at)
            self._hints.due(queue.endpoint_id, due_at)
        self._place(queue, now)
        self._admit_waiting(queue.destination, now)

    def released(self, endpoint_id: str) -> None:
        """This process no longer holds one delivery of the endpoint."""
        self._queues[endpoint_id].held -= 1

    def health_changed(self, health: Mapping[str, Health], now: UnixMs) -> None:
        """Take over the health that settlements have written, by endpoint id."""
        for endpoint_id, each in health.items():
            queue = self._queues.get(endpoint_id)
            if queue is not None:
                queue.refresh(replace(queue.target, health=each), now, share=self._share)
                self._place(queue, now)

    # -- one queue ---------------------------------------------------------------------------------------------------

    def _place(self, queue: EndpointQueue, now: UnixMs, *, timer_fired: bool = False) -> None:
        """Make the queue ready, or set its timer, or let it wait for an event.

        A queue whose last attempt failed waits for a multiple of `COALESCE_MS`, at which all such queues are asked in one
        claim; so does a queue that waits for a slot. A claim for each of them alone would delay the claims for all others.
        """
        at = queue.ready_at(now)
        if at is not None and not (queue.is_healthy or queue.urgent or timer_fired):
            at = coalesced(max(at, now + 1))
        if at is not None and at <= now:
            self._admission.add_ready(queue)
            return
        self._admission.remove(queue)
        if at is not None:
            self._timers.set(queue, at)

    def _fire_timers(self, now: UnixMs) -> None:
        """Place the queues whose timers are due, and as many of those that wait for a slot as may get one now."""
        for queue in self._timers.fire(now):
            self._place(queue, now, timer_fired=True)
        for queue in self._admission.retries(now):
            self._place(queue, now, timer_fired=True)

    def _defer(self, queue: EndpointQueue, now: UnixMs) -> None:
        """Let a queue that was refused wait for what it lacks: its destination, a slot, or its time."""
        at = queue.ready_at(now)
        if queue.destination.is_full:
            queue.destination.waiting[queue.endpoint_id] = queue
        elif at is not None and at <= now:
            self._admission.wait_for_slot(queue)
        else:
            self._place(queue, now)

    def _admit_waiting(self, destination: Destination, now: UnixMs) -> None:
        """Place all queues that wait for the destination, if it has a free slot again."""
        if destination.waiting and not destination.is_full:
            waiting, destination.waiting = destination.waiting, {}
            for queue in waiting.values():
                self._place(queue, now)

    def _start(self, queue: EndpointQueue, count: int, now: UnixMs) -> None:
        self._admission.started(queue, count)
        queue.held += count
        queue.started(count, now)

    def _disabled(self, endpoint_id: str, now: UnixMs) -> None:
        """A claim has found the endpoint not enabled: nothing is due but what was noted since the claim began."""
        queue = self._queues.get(endpoint_id)
        if queue is not None:
            queue.due_at, _ = self._hints.due_since_claim(endpoint_id)
            self._place(queue, now)

    def _correct(self, queue: EndpointQueue, backlog: EndpointBacklog, now: UnixMs) -> None:
        """Take over when the first delivery is due by the backlog scan, beside what has changed since the scan began."""
        hinted = self._hints.take_unknown(queue.endpoint_id)  # with a queue, it must not be introduced as well
        if hinted is not None:
            queue.due_at, queue.urgent = now, hinted
        if self._hints.changed_since_scan(queue.endpoint_id):
            queue.due_at = backlog.due_at if queue.due_at is None else min(queue.due_at, backlog.due_at)
        else:
            queue.due_at, queue.urgent = backlog.due_at, False

    # -- the set of queues -------------------------------------------------------------------------------------------

    def _refresh(self, target: Target, now: UnixMs) -> EndpointQueue:
        """Return the queue of the target, new or with the target as it is now."""
        queue = self._queues.get(target.endpoint_id)
        if queue is None:
            queue = EndpointQueue(target, self._destinations.join(target.host), self._bounds.endpoint_width)
            self._queues[target.endpoint_id] = queue
        elif queue.target.host != target.host:
            self._move(queue, target.host, now)
        queue.width = max(1, self._bounds.endpoint_width // self._share)
        queue.refresh(target, now, share=self._share)
        return queue

    def _move(self, queue: EndpointQueue, host: str, now: UnixMs) -> None:
        """Move the queue, with its deliveries in flight, to another destination: the URL of the endpoint has changed."""
        left = self._destinations.leave(queue)
        left.in_flight -= queue.in_flight
        self._admit_waiting(left, now)
        queue.destination = self._destinations.join(host)
        queue.destination.in_flight += queue.in_flight

    def _set_share(self, workers: int, now: UnixMs) -> None:
        """Divide the limits of endpoints and hosts among so many workers."""
        if workers != self._share:
            self._share = workers
            self._destinations.resize(max(1, self._bounds.host_width // workers))
            for queue in self._queues.values():
                self._place(self._refresh(queue.target, now), now)
            for destination in self._destinations:
                self._admit_waiting(destination, now)

    def _drop_idle_queues(self) -> None:
        """Drop queues with nothing pending and nothing held, if there are too many queues.

        A later hint or backlog scan makes them again.
        """
        if len(self._queues) > self._bounds.idle_queues:
            for queue in [each for each in self._queues.values() if each.due_at is None and not each.held]:
                del self._queues[queue.endpoint_id]
                self._destinations.leave(queue)
                self._admission.forget(queue)

    def __len__(self) -> int:
        return len(self._queues)

    def __repr__(self) -> str:
        busy: Collection[EndpointQueue] = [
            queue for queue in self._queues.values() if queue.in_flight or queue.due_at is not None
        ]
        return f"<EndpointQueues: {self.in_flight}/{self._bounds.in_flight} | {' '.join(map(repr, busy))}>"
