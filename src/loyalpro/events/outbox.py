"""Writes a transaction's events, and what is owed to whom, inside that same transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from loyalpro.events.envelope import Event, seal
from loyalpro.events.new_event import NewEvent
from loyalpro.kernel.clock import Clock, UnixMs
from loyalpro.kernel.ids import IdFactory, delivery_id


@dataclass(frozen=True, slots=True)
class Subscription:
    """One endpoint and the event types that it asked for; `*` is all of them."""

    endpoint_id: str
    types: frozenset[str]
    ordered: bool

    def wants(self, event_type: str) -> bool:
        """Whether an event of this type is owed to the endpoint."""
        return "*" in self.types or event_type in self.types


@dataclass(frozen=True, slots=True)
class Owed:
    """One delivery that an event causes: the row is written with the event."""

    delivery_id: str
    endpoint_id: str
    event: Event
    ordered: bool


class EventStore(Protocol):
    """What the outbox writes and reads, in the transaction it is part of."""

    def subscriptions(self, account_id: str) -> Sequence[Subscription]:
        """Every endpoint of the account that is not deleted, whatever its status."""
        ...

    def append(self, events: Sequence[tuple[Event, int]]) -> None:
        """Store events with the number of deliveries that each is owed."""
        ...

    def owe(self, owed: Sequence[Owed], now: UnixMs) -> None:
        """Store deliveries, due now, or in their turn where the endpoint wants a customer's events in order."""
        ...


class Outbox:
    """Collects the events of one transaction; `flush` is the last thing that transaction does."""

    def __init__(self, store: EventStore, clock: Clock, ids: IdFactory) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._new: list[NewEvent] = []

    def emit(self, event: NewEvent) -> None:
        """Note an event; `flush` freezes and writes it."""
        self._new.append(event)

    def flush(self) -> frozenset[str]:
        """Write every event and its deliveries; the ids of the endpoints that are owed something."""
        if not self._new:
            return frozenset()
        now, new_id = self._clock.now_ms(), self._ids.new
        wanting = self._wanting()
        counted: list[tuple[Event, int]] = []
        owed: list[Owed] = []
        for new in self._new:
            event = seal(new, event_id=new_id("evt"), now=now)
            due = wanting[new.account_id, new.type]
            counted.append((event, len(due)))
            owed += [_owed(event, each) for each in due]
        self._store.append(counted)
        self._store.owe(owed, now)
        self._new.clear()
        return frozenset(each.endpoint_id for each in owed)

    def _wanting(self) -> dict[tuple[str, str], list[Subscription]]:
        """Who is owed the events of each account and type that were emitted."""
        kinds = {(new.account_id, new.type) for new in self._new}
        all_of = {account_id: self._store.subscriptions(account_id) for account_id in {account for account, _ in kinds}}
        return {kind: [each for each in all_of[kind[0]] if each.wants(kind[1])] for kind in kinds}


def _owed(event: Event, subscription: Subscription) -> Owed:
    return Owed(delivery_id(event.id, subscription.endpoint_id), subscription.endpoint_id, event, subscription.ordered)
