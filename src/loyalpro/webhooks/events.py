"""Past events: list them in the order of their commits, read one, and send it again."""

from loyalpro.delivery.states import DeliveryStatus
from loyalpro.events.envelope import Event
from loyalpro.kernel.errors import Conflict, Expired, NotFound
from loyalpro.kernel.ids import delivery_id
from loyalpro.kernel.record import record
from loyalpro.webhooks.deliveries import existing_delivery, require_enabled, require_retryable
from loyalpro.webhooks.endpoints import locked_endpoint
from loyalpro.webhooks.entities import Delivery, Endpoint, PastEvent
from loyalpro.webhooks.event_types import checked_type
from loyalpro.webhooks.ports import WebhooksUnit


@record
class ListEvents:
    """The events after `after_id`, or from the oldest one, that match every filter."""

    account_id: str
    after_id: str | None
    limit: int
    event_type: str | None = None
    customer_id: str | None = None


@record
class EventRef:
    """Names one event."""

    account_id: str
    event_id: str


@record
class ResendEvent:
    """The event to send again: to one endpoint, or with None to every enabled endpoint that is subscribed to it."""

    account_id: str
    event_id: str
    endpoint_id: str | None = None


def list_events(unit: WebhooksUnit, query: ListEvents) -> list[Event]:
    """Events in the order of their commits, oldest first. No event appears before one that was listed earlier.

    Raises `InvalidInput` for a type that does not exist, and `Expired` when the event `after_id` is no longer kept.
    """
    if query.event_type is not None:
        checked_type(query.event_type, param="type")
    if query.after_id is not None and not unit.events.is_kept(query.account_id, query.after_id):
        raise _cursor_expired(query.after_id)
    return unit.events.list_after(
        query.account_id, query.after_id, query.limit, event_type=query.event_type, customer_id=query.customer_id
    )


def get_event(unit: WebhooksUnit, query: EventRef) -> Event:
    """One event, samples included."""
    event = unit.events.get(query.account_id, query.event_id)
    if event is None:
        raise _no_event(query.event_id)
    return event


def resend_event(unit: WebhooksUnit, command: ResendEvent) -> list[Delivery]:
    """Make a delivery of the event due at each endpoint, a new one where there is none. Pending ones stay as they are."""
    event = _sendable(unit, command)
    alone = command.endpoint_id is not None
    endpoints = [_chosen(unit, command)] if alone else _subscribed(unit, event)
    sent = [_send(unit, event, each, alone=alone) for each in endpoints]
    unit.audit(command.account_id, "event.resent", command.event_id)
    unit.wake_endpoints([each.id for each in endpoints], urgent=True)
    return [existing_delivery(unit, command.account_id, each) for each in sent]


def _sendable(unit: WebhooksUnit, command: ResendEvent) -> PastEvent:
    event = unit.events.hold(command.account_id, command.event_id)
    if event is None:
        raise _no_event(command.event_id)
    if event.erased:
        raise Conflict("The data of this event was erased with its customer, so it cannot be sent.", code="erased")
    return event


def _chosen(unit: WebhooksUnit, command: ResendEvent) -> Endpoint:
    assert command.endpoint_id is not None
    endpoint = locked_endpoint(unit, command.account_id, command.endpoint_id, param="endpoint_id")
    require_enabled(endpoint.id, endpoint.status)
    return endpoint


def _subscribed(unit: WebhooksUnit, event: PastEvent) -> list[Endpoint]:
    """The endpoints that get such events. A sample goes only to those that had it before: others would take it for real."""
    subscribed = unit.endpoints.lock_enabled(event.account_id, event.type, is_import=event.imported)
    if not event.test:
        return subscribed
    return [each for each in subscribed if unit.deliveries.lock(event.account_id, delivery_id(event.id, each.id))]


def _send(unit: WebhooksUnit, event: PastEvent, endpoint: Endpoint, *, alone: bool) -> str:
    """Make the delivery of the event to the endpoint due; its id. If it cannot be sent now, raises `Conflict` when `alone`."""
    snapshot = unit.deliveries.lock(event.account_id, delivery_id(event.id, endpoint.id))
    if snapshot is None:
        return unit.deliveries.enqueue_past(event, endpoint, unit.now)
    in_progress = snapshot.status is DeliveryStatus.PENDING or snapshot.under_way
    if not in_progress and (alone or snapshot.waits_for is None):
        require_retryable(snapshot)
        unit.deliveries.make_due(snapshot, unit.now)
    return snapshot.delivery_id


def _no_event(event_id: str) -> NotFound:
    return NotFound(f"There is no event {event_id}.", param="id")


def _cursor_expired(event_id: str) -> Expired:
    return Expired(
        f"The event {event_id} is no longer kept, so the events after it are not known: some may have been missed. "
        "Leave `after` out to start with the oldest event that is kept.",
        code="cursor_expired",
        param="after",
    )
