"""Test events: samples that are signed and delivered like any other event, but to one endpoint alone."""

from loyalpro.events.envelope import Event, seal
from loyalpro.events.new_event import NewEvent
from loyalpro.events.outbox import NewDelivery
from loyalpro.events.samples import sample
from loyalpro.kernel.ids import delivery_id
from loyalpro.kernel.record import record
from loyalpro.webhooks.deliveries import existing_delivery, require_enabled
from loyalpro.webhooks.endpoints import existing_endpoint
from loyalpro.webhooks.entities import Delivery, Endpoint
from loyalpro.webhooks.event_types import checked_type
from loyalpro.webhooks.ports import WebhooksUnit


@record
class SendTestEvent:
    """The endpoint to send to, and the event type of the sample. `forged`: sign it with a secret that the endpoint lacks."""

    account_id: str
    endpoint_id: str
    event_type: str
    forged: bool = False


def send_test_event(unit: WebhooksUnit, command: SendTestEvent) -> Delivery:
    """Store a sample event with one pending delivery. Lists of events and the poller leave samples out.

    A forged one is sent once, even while the endpoint fails: it says whether the receiver checks signatures, and changes
    nothing of the endpoint's health. Raises `Conflict` for a forged one to an endpoint that is not enabled.
    """
    type_ = checked_type(command.event_type, param="type")
    endpoint = existing_endpoint(unit, command.account_id, command.endpoint_id)
    if command.forged:
        require_enabled(endpoint.id, endpoint.status)
    new = NewEvent(command.account_id, type_, None, None, sample(type_, unit.now))
    event = seal(new, event_id=unit.ids.new("evt"), now=unit.now, origin=unit.origin)
    unit.events.append([(event, 1)], test=True)
    id_ = _enqueue(unit, event, endpoint, forged=command.forged)
    unit.audit(command.account_id, "webhook_endpoint.tested", endpoint.id)
    unit.wake_endpoints([endpoint.id], urgent=command.forged)
    return existing_delivery(unit, command.account_id, id_)


def _enqueue(unit: WebhooksUnit, event: Event, endpoint: Endpoint, *, forged: bool) -> str:
    if forged:
        return unit.deliveries.enqueue_forged(event, endpoint, unit.now)
    id_ = delivery_id(event.id, endpoint.id)
    unit.deliveries.enqueue([NewDelivery(id_, endpoint.id, event, ordered=False)], unit.now)
    return id_
