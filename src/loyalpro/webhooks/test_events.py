"""Test events: samples that are signed and delivered like any other event, but to one endpoint alone."""

from loyalpro.events.envelope import seal
from loyalpro.events.new_event import NewEvent
from loyalpro.events.outbox import NewDelivery
from loyalpro.events.samples import sample
from loyalpro.kernel.ids import delivery_id
from loyalpro.kernel.record import record
from loyalpro.webhooks.deliveries import existing_delivery
from loyalpro.webhooks.endpoints import existing_endpoint
from loyalpro.webhooks.entities import Delivery
from loyalpro.webhooks.event_types import checked_type
from loyalpro.webhooks.ports import WebhooksUnit


@record
class SendTestEvent:
    """The endpoint to send to, and the event type of the sample."""

    account_id: str
    endpoint_id: str
    event_type: str


def send_test_event(unit: WebhooksUnit, command: SendTestEvent) -> Delivery:
    """Store a sample event with one pending delivery. Lists of events and the poller leave samples out."""
    type_ = checked_type(command.event_type, param="type")
    endpoint = existing_endpoint(unit, command.account_id, command.endpoint_id)
    new = NewEvent(command.account_id, type_, None, None, sample(type_, unit.now))
    event = seal(new, event_id=unit.ids.new("evt"), now=unit.now, origin=unit.origin)
    unit.events.append([(event, 1)], test=True)
    id_ = delivery_id(event.id, endpoint.id)
    unit.deliveries.enqueue([NewDelivery(id_, endpoint.id, event, ordered=False)], unit.now)
    unit.audit(command.account_id, "webhook_endpoint.tested", endpoint.id)
    unit.wake_endpoints([endpoint.id])
    return existing_delivery(unit, command.account_id, id_)
