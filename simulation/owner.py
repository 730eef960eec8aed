"""An owner who changes his mind: pauses, deletes, retries, cancels, resends and replays, while everything else goes wrong."""

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
from simulation.network import Receiver

T = TypeVar("T")


@dataclass
class Subscriber:
    """An endpoint as the world knows it. What was committed at positions in between is owed to it."""

    id: str
    account_id: str
    receiver: Receiver
    types: tuple[str, ...]
    ordered: bool
    after_position: int
    until_position: int | None = None


@dataclass(frozen=True)
class Job:
    """A replay, and the events that it has to look at: those that were there in its range when it was made."""

    id: str
    endpoint_id: str
    event_ids: frozenset[str]
    statuses: tuple[str, ...]


@dataclass
class Deeds:
    """What the owner has done by hand, for the checker: there the usual times and endings do not hold.

    `touched` was to be sent once more; `canceled` was canceled at some time; `ended` was, and nothing came after it.
    """

    touched: set[str] = field(default_factory=set)
    canceled: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    granted: set[tuple[str, str]] = field(default_factory=set)
    jobs: list[Job] = field(default_factory=list)


class Change(Protocol):
    """A transaction from outside, that always works."""

    def __call__(self, work: Callable[[UnitOfWork], T]) -> T: ...


class Owner:
    """Does something at random. `wake` is what the API does after a commit, for endpoints and for replays."""

    def __init__(
        self,
        *,
        subscribers: Sequence[Subscriber],
        change: Change,
        add: Callable[[], None],
        wake: Callable[[str, bool], None],
        chance: random.Random,
        counted: Counter[str],
    ) -> None:
        self.deeds = Deeds()
        self._subscribers = subscribers
        self._change = change
        self._add = add
        self._wake = wake
        self._chance = chance
        self._counted = counted

    def meddle(self) -> None:
        """One thing."""
        endpoints = (self._pause, self._enable, self._enable, self._delete, self._grow)
        deliveries = (self._retry, self._retry, self._cancel, self._cancel, self._resend)
        act = self._chance.choice((*endpoints, *deliveries, self._replay, self._stop_replay))
        try:
            act()
        except Conflict as conflict:
            self._counted[f"owner {conflict.code}"] += 1
        else:
            self._counted[f"owner {act.__name__.strip('_')}"] += 1

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def _grow(self) -> None:
        self._add()

    def _pause(self) -> None:
        self._set_status(EndpointStatus.PAUSED)

    def _enable(self) -> None:
        self._set_status(EndpointStatus.ENABLED)

    def _set_status(self, status: EndpointStatus) -> None:
        subscriber = self._chance.choice(self._subscribers)

        def work(unit: UnitOfWork) -> None:
            endpoint = unit.endpoints.get(subscriber.account_id, subscriber.id, lock=True)
            if endpoint is not None:
                unit.endpoints.update(replace(endpoint, status=status))

        self._change(work)

    def _delete(self) -> None:
        subscriber = self._chance.choice(self._subscribers)

        def work(unit: UnitOfWork) -> int:
            unit.endpoints.delete(subscriber.account_id, subscriber.id, unit.now)
            return newest_position(unit)

        if subscriber.until_position is None:
            subscriber.until_position = self._change(work)

    # -- deliveries --------------------------------------------------------------------------------------------------

    def _retry(self) -> None:
        def work(unit: UnitOfWork) -> tuple[str, str] | None:
            found = self._pick(unit, "SELECT account_id, id FROM deliveries ORDER BY id")
            standing = unit.deliveries.lock(*found) if found else None
            if standing is None:
                return None
            require_retryable(standing)
            unit.deliveries.make_due(standing, unit.now)
            return standing.endpoint_id, standing.delivery_id

        self._touched(self._change(work))

    def _cancel(self) -> None:
        def work(unit: UnitOfWork) -> DeliverySnapshot | None:
            found = self._pick(unit, "SELECT account_id, id FROM deliveries WHERE status = 'pending' ORDER BY id")
            standing = unit.deliveries.lock(*found) if found else None
            if standing is None or not needs_cancel(standing):
                return None
            unit.deliveries.cancel(standing, unit.now)
            return standing

        done = self._change(work)
        if done is not None:
            self.deeds.canceled.add(done.delivery_id)
            if done.once_canceled is DeliveryStatus.CANCELED:
                self.deeds.ended.add(done.delivery_id)
            self._wake(done.endpoint_id, False)

    def _resend(self) -> None:
        """One event to one endpoint, whether that was ever owed it or not."""
        subscriber = self._chance.choice(self._subscribers)

        def work(unit: UnitOfWork) -> tuple[str, str] | None:
            found = self._pick(unit, "SELECT account_id, id FROM events ORDER BY position")
            if found is None or found[0] != subscriber.account_id:
                return None
            event = unit.events.hold(*found)
            endpoint = unit.endpoints.get(subscriber.account_id, subscriber.id, lock=True)
            require_enabled(subscriber.id, endpoint.status if endpoint else None)
            assert event is not None
            assert endpoint is not None
            standing = unit.deliveries.lock(event.account_id, delivery_id(event.id, endpoint.id))
            if standing is None:
                self.deeds.granted.add((event.id, endpoint.id))
                return endpoint.id, unit.deliveries.enqueue_past(event, endpoint, unit.now)
            if standing.status is DeliveryStatus.PENDING or standing.under_way:
                return None
            require_retryable(standing)
            unit.deliveries.make_due(standing, unit.now)
            return endpoint.id, standing.delivery_id

        self._touched(self._change(work))

    def _touched(self, done: tuple[str, str] | None) -> None:
        if done is not None:
            self.deeds.touched.add(done[1])
            self.deeds.ended.discard(done[1])
            self._wake(done[0], True)

    # -- replays -----------------------------------------------------------------------------------------------------

    def _replay(self) -> None:
        """All that has happened since some time, or only what ended in some ways."""
        subscriber, chance = self._chance.choice(self._subscribers), self._chance
        statuses = chance.choice((STATUSES, (MISSING,), ("exhausted", "canceled"), ("succeeded",)))

        def work(unit: UnitOfWork) -> Job | None:
            if unit.endpoints.get(subscriber.account_id, subscriber.id, lock=True) is None:
                return None
            rows = unit.connection.execute(
                "SELECT id, created_at FROM events WHERE account_id = ? ORDER BY position", (subscriber.account_id,)
            )
            since = chance.choice([created_at for _, created_at in rows] or [unit.now])
            replay = _running(unit, subscriber, since, statuses)
            unit.replays.insert(replay)
            events = frozenset(id_ for id_, created_at in rows if since <= created_at <= replay.until)
            return Job(replay.id, subscriber.id, events, statuses)

        job = self._change(work)
        if job is not None:
            self.deeds.jobs.append(job)
            ids = {delivery_id(event_id, job.endpoint_id) for event_id in job.event_ids}
            self.deeds.touched |= ids
            if MISSING in statuses:
                self.deeds.granted |= {(event_id, job.endpoint_id) for event_id in job.event_ids}

    def _stop_replay(self) -> None:
        """Whatever it has not looked at by now is left as it is."""
        if self.deeds.jobs:
            job = self._chance.choice(self.deeds.jobs)
            self._change(lambda unit: unit.replays.finish(job.id, "canceled", unit.now))

    def _pick(self, unit: UnitOfWork, sql: str) -> tuple[str, str] | None:
        rows = unit.connection.execute(sql)
        return tuple(self._chance.choice(rows)) if rows else None


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
    """Of the newest event: what comes after it has a greater one."""
    [(position,)] = unit.connection.execute("SELECT COALESCE(MAX(position), 0) FROM events")
    return int(position)
