"""The owner of the endpoints: pauses, deletes, retries, cancels, resends and replays at random while faults happen."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from loyalpro.delivery.states import DeliveryStatus, EndpointStatus
from loyalpro.kernel.errors import Conflict
from loyalpro.kernel.ids import delivery_id
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.webhooks.deliveries import needs_cancel, require_enabled, require_retryable
from loyalpro.webhooks.entities import DeliverySnapshot, Replay
from loyalpro.webhooks.replays import MISSING, STATUSES
from simulation.network import SimulatedReceiver

T = TypeVar("T")


@dataclass
class Subscriber:
    """An endpoint as the run knows it. It must get the events at positions after `after_position`, up to `until_position`."""

    id: str
    account_id: str
    receiver: SimulatedReceiver
    types: tuple[str, ...]
    ordered: bool
    after_position: int
    until_position: int | None = None


@dataclass(frozen=True)
class ReplayRequest:
    """A replay, and the events that it has to examine: those in its range at the time of its creation."""

    id: str
    endpoint_id: str
    event_ids: frozenset[str]
    statuses: tuple[str, ...]


@dataclass
class OwnerActions:
    """What the owner has done, for the checker, because the usual times and outcomes do not hold there.

    Ids of deliveries: `resent` were to be sent again; `canceled` were canceled at some time; `ended` were canceled and
    not resent since. `added`: (event id, endpoint id) for which the owner may have created a delivery.
    """

    resent: set[str] = field(default_factory=set)
    canceled: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    added: set[tuple[str, str]] = field(default_factory=set)
    replays: list[ReplayRequest] = field(default_factory=list)


class Change(Protocol):
    """Runs a transaction without any fault."""

    def __call__(self, work: Callable[[UnitOfWork], T]) -> T: ...


class Owner:
    """Does random actions. `wake` is the hint that the API gives the engine after a commit: endpoint id, urgent."""

    def __init__(
        self,
        *,
        subscribers: Sequence[Subscriber],
        change: Change,
        add: Callable[[], None],
        wake: Callable[[str, bool], None],
        rng: random.Random,
        counted: Counter[str],
    ) -> None:
        self.actions = OwnerActions()
        self._subscribers = subscribers
        self._change = change
        self._add = add
        self._wake = wake
        self._rng = rng
        self._counted = counted

    def act(self) -> None:
        """Do one random action."""
        endpoints = (self._pause, self._enable, self._enable, self._delete, self._add_endpoint)
        deliveries = (self._retry, self._retry, self._cancel, self._cancel, self._resend)
        act = self._rng.choice((*endpoints, *deliveries, self._replay, self._stop_replay))
        try:
            act()
        except Conflict as conflict:
            self._counted[f"owner {conflict.code}"] += 1
        else:
            self._counted[f"owner {act.__name__.strip('_')}"] += 1

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def _add_endpoint(self) -> None:
        self._add()

    def _pause(self) -> None:
        self._set_status(EndpointStatus.PAUSED)

    def _enable(self) -> None:
        self._set_status(EndpointStatus.ENABLED)

    def _set_status(self, status: EndpointStatus) -> None:
        subscriber = self._rng.choice(self._subscribers)

        def work(unit: UnitOfWork) -> None:
            endpoint = unit.endpoints.get(subscriber.account_id, subscriber.id, lock=True)
            if endpoint is not None:
                unit.endpoints.update(replace(endpoint, status=status))

        self._change(work)

    def _delete(self) -> None:
        subscriber = self._rng.choice(self._subscribers)

        def work(unit: UnitOfWork) -> int:
            unit.endpoints.delete(subscriber.account_id, subscriber.id, unit.now)
            return newest_position(unit)

        if subscriber.until_position is None:
            subscriber.until_position = self._change(work)

    # -- deliveries --------------------------------------------------------------------------------------------------

    def _retry(self) -> None:
        def work(unit: UnitOfWork) -> tuple[str, str] | None:
            found = self._pick(unit, "SELECT account_id, id FROM deliveries ORDER BY id")
            snapshot = unit.deliveries.lock(*found) if found else None
            if snapshot is None:
                return None
            require_retryable(snapshot)
            unit.deliveries.make_due(snapshot, unit.now)
            return snapshot.endpoint_id, snapshot.delivery_id

        self._note_resend(self._change(work))

    def _cancel(self) -> None:
        def work(unit: UnitOfWork) -> DeliverySnapshot | None:
            found = self._pick(unit, "SELECT account_id, id FROM deliveries WHERE status = 'pending' ORDER BY id")
            snapshot = unit.deliveries.lock(*found) if found else None
            if snapshot is None or not needs_cancel(snapshot):
                return None
            unit.deliveries.cancel(snapshot, unit.now)
            return snapshot

        done = self._change(work)
        if done is not None:
            self.actions.canceled.add(done.delivery_id)
            if done.once_canceled is DeliveryStatus.CANCELED:
                self.actions.ended.add(done.delivery_id)
            self._wake(done.endpoint_id, False)

    def _resend(self) -> None:
        """Send one event to one endpoint, whether there is a delivery of it or not."""
        subscriber = self._rng.choice(self._subscribers)

        def work(unit: UnitOfWork) -> tuple[str, str] | None:
            found = self._pick(unit, "SELECT account_id, id FROM events ORDER BY position")
            if found is None or found[0] != subscriber.account_id:
                return None
            event = unit.events.hold(*found)
            endpoint = unit.endpoints.get(subscriber.account_id, subscriber.id, lock=True)
            require_enabled(subscriber.id, endpoint.status if endpoint else None)
            assert event is not None
            assert endpoint is not None
            snapshot = unit.deliveries.lock(event.account_id, delivery_id(event.id, endpoint.id))
            if snapshot is None:
                self.actions.added.add((event.id, endpoint.id))
                return endpoint.id, unit.deliveries.enqueue_past(event, endpoint, unit.now)
            if snapshot.status is DeliveryStatus.PENDING or snapshot.under_way:
                return None
            require_retryable(snapshot)
            unit.deliveries.make_due(snapshot, unit.now)
            return endpoint.id, snapshot.delivery_id

        self._note_resend(self._change(work))

    def _note_resend(self, done: tuple[str, str] | None) -> None:
        if done is not None:
            self.actions.resent.add(done[1])
            self.actions.ended.discard(done[1])
            self._wake(done[0], True)

    # -- replays -----------------------------------------------------------------------------------------------------

    def _replay(self) -> None:
        """Replay the events since some time, all of them or those whose delivery has some status."""
        subscriber, rng = self._rng.choice(self._subscribers), self._rng
        statuses = rng.choice((STATUSES, (MISSING,), ("exhausted", "canceled"), ("succeeded",)))

        def work(unit: UnitOfWork) -> ReplayRequest | None:
            if unit.endpoints.get(subscriber.account_id, subscriber.id, lock=True) is None:
                return None
            rows = unit.connection.execute(
                "SELECT id, created_at FROM events WHERE account_id = ? ORDER BY position", (subscriber.account_id,)
            )
            since = rng.choice([created_at for _, created_at in rows] or [unit.now])
            replay = _running(unit, subscriber, since, statuses)
            unit.replays.insert(replay)
            events = frozenset(id_ for id_, created_at in rows if since <= created_at <= replay.until)
            return ReplayRequest(replay.id, subscriber.id, events, statuses)

        job = self._change(work)
        if job is not None:
            self.actions.replays.append(job)
            ids = {delivery_id(event_id, job.endpoint_id) for event_id in job.event_ids}
            self.actions.resent |= ids
            if MISSING in statuses:
                self.actions.added |= {(event_id, job.endpoint_id) for event_id in job.event_ids}

    def _stop_replay(self) -> None:
        """Cancel a replay: events that it has not examined yet are not sent."""
        if self.actions.replays:
            job = self._rng.choice(self.actions.replays)
            self._change(lambda unit: unit.replays.finish(job.id, "canceled", unit.now))

    def _pick(self, unit: UnitOfWork, sql: str) -> tuple[str, str] | None:
        rows = unit.connection.execute(sql)
        return tuple(self._rng.choice(rows)) if rows else None


def _running(unit: UnitOfWork, subscriber: Subscriber, since: int, statuses: tuple[str, ...]) -> Replay:
    return Replay(
        id=unit.ids.new("rpl"),
        account_id=subscriber.account_id,
        endpoint_id=subscriber.id,
        since=since,
        until=unit.now,
        types=None,
        statuses=statuses,
        status="running",
        cursor="",
        examined=0,
        replayed=0,
        created_at=unit.now,
        finished_at=None,
    )


def newest_position(unit: UnitOfWork) -> int:
    """The position of the newest event; later events have greater ones."""
    [(position,)] = unit.connection.execute("SELECT COALESCE(MAX(position), 0) FROM events")
    return int(position)
