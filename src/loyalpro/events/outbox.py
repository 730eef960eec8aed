"""Writes the events of a database transaction and their pending deliveries inside that same transaction."""

from collections.abc import Sequence
from typing import Protocol

from loyalpro.events.envelope import Event, seal
from loyalpro.events.new_event import NewEvent
from loyalpro.kernel.clock import Clock, UnixMs
from loyalpro.kernel.ids import IdFactory, delivery_id
from loyalpro.kernel.origin import Origin
from loyalpro.kernel.record import record


@record
class Subscription:
    """One endpoint and the event types that it is subscribed to; `*` is all of them. `ordered`: per customer.

    `imports`: whether it also gets the events that imports cause.
    """

    endpoint_id: str
    types: frozenset[str]
    ordered: bool
    imports: bool = True

    def wants(self, event_type: str, *, is_import: bool = False) -> bool:
        """Whether an event of this type is delivered to the endpoint."""
        return ("*" in self.types or event_type in self.types) and (self.imports or not is_import)


@record
class NewDelivery:
    """A delivery that an event causes; its row is written with the event."""

    delivery_id: str
    endpoint_id: str
    event: Event
    ordered: bool


class SubscriptionStore(Protocol):
    """What the outbox reads of endpoints, inside the transaction of the events."""

    def subscriptions(self, account_id: str) -> Sequence[Subscription]:
        """Every endpoint of the account that is not deleted, whatever its status."""
        ...


class EventStore(Protocol):
    """What the outbox writes of events, inside their transaction."""

    def append(self, events: Sequence[tuple[Event, int]]) -> None:
        """Store events, each with the number of its deliveries."""
        ...


class NewDeliveryStore(Protocol):
    """What the outbox writes of deliveries, inside the transaction of the events."""

    def enqueue(self, deliveries: Sequence[NewDelivery], now: UnixMs) -> None:
        """Store pending deliveries: due now, or after the earlier ones of the customer where the endpoint is ordered."""
        ...


class Outbox:
    """Collects the events of one transaction; the transaction calls `flush` once, at its end.

    `caused`: the ids of the events that `flush` has written and that have an origin.
    """

    def __init__(
        self,
        subscriptions: SubscriptionStore,
        events: EventStore,
        deliveries: NewDeliveryStore,
        clock: Clock,
        ids: IdFactory,
    ) -> None:
        self._subscriptions = subscriptions
        self._events = events
        self._deliveries = deliveries
        self._clock = clock
        self._ids = ids
        self._new: list[tuple[NewEvent, Origin | None, bool]] = []
        self.caused: list[tuple[Origin, str]] = []

    def emit(self, event: NewEvent, origin: Origin | None = None, *, is_import: bool = False) -> None:
        """Collect an event; `flush` freezes and writes it. `is_import`: an import causes it."""
        self._new.append((event, origin, is_import))

    def flush(self) -> frozenset[str]:
        """Write every event and its deliveries; return the ids of the endpoints that have new deliveries."""
        if not self._new:
            return frozenset()
        now, new_id = self._clock.now_ms(), self._ids.new
        subscribed = self._subscribed()
        counted: list[tuple[Event, int]] = []
        deliveries: list[NewDelivery] = []
        for new, origin, is_import in self._new:
            event = seal(new, event_id=new_id("evt"), now=now, origin=origin, is_import=is_import)
            targets = subscribed[new.account_id, new.type, is_import]
            counted.append((event, len(targets)))
            deliveries += [_delivery(event, each) for each in targets]
            if origin is not None:
                self.caused.append((origin, event.id))
        self._events.append(counted)
        self._deliveries.enqueue(deliveries, now)
        self._new.clear()
        return frozenset(each.endpoint_id for each in deliveries)

    def _subscribed(self) -> dict[tuple[str, str, bool], list[Subscription]]:
        """The subscriptions of each account and event type that was emitted, by an import or otherwise."""
        kinds = {(new.account_id, new.type, is_import) for new, _, is_import in self._new}
        all_of = {
            account_id: self._subscriptions.subscriptions(account_id)
            for account_id in {account_id for account_id, _, _ in kinds}
        }
        return {kind: [each for each in all_of[kind[0]] if each.wants(kind[1], is_import=kind[2])] for kind in kinds}


def _delivery(event: Event, subscription: Subscription) -> NewDelivery:
    return NewDelivery(
        delivery_id(event.id, subscription.endpoint_id), subscription.endpoint_id, event, subscription.ordered
    )
