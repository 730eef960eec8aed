"""One delivery with everything that is known of it: its event, its endpoint, its attempts and those to come."""

from collections.abc import Sequence
from typing import Final, Protocol

from loyalpro.delivery.schedule import WINDOW_S
from loyalpro.events.envelope import Event
from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.record import record
from loyalpro.webhooks.deliveries import DeliveryRef, existing_delivery
from loyalpro.webhooks.delivery_log import MOST_LINES
from loyalpro.webhooks.entities import Delivery, DeliveryFilter, Endpoint, PastAttempt
from loyalpro.webhooks.overview import MOST_LISTED
from loyalpro.webhooks.ports import WebhooksUnit

_MOST_COMING: Final = 40


class Schedule(Protocol):
    """When attempts are made."""

    def coming(self, *, attempts: int, first_attempt_at: UnixMs, due_at: UnixMs, most: int) -> Sequence[UnixMs]:
        """About when the attempts after the one at `due_at` are made, if all fail; at most so many."""
        ...


@record
class Sibling:
    """A delivery of the same event to another endpoint, which is None when it is deleted."""

    delivery: Delivery
    endpoint: Endpoint | None


@record
class DeliveryStory:
    """A delivery and all its attempts, first to last.

    `event` is None when it is no longer kept, and `endpoint` when it is deleted. `siblings`: the deliveries of the event to
    other endpoints. `coming`: about when the attempts after the next one are made. `ends_at`: when its 72 hours end.
    """

    delivery: Delivery
    attempts: Sequence[PastAttempt]
    event: Event | None
    endpoint: Endpoint | None
    siblings: Sequence[Sibling]
    coming: Sequence[UnixMs]
    ends_at: UnixMs | None


def read_delivery(unit: WebhooksUnit, query: DeliveryRef, schedule: Schedule) -> DeliveryStory:
    """The delivery, or `NotFound`."""
    delivery = existing_delivery(unit, query.account_id, query.delivery_id)
    endpoints = {each.id: each for each in unit.endpoints.list_before(query.account_id, None, MOST_LISTED)}
    same = unit.deliveries.list_before(query.account_id, None, MOST_LINES, DeliveryFilter(event_id=delivery.event_id))
    due_at, first_at = delivery.next_attempt_at, delivery.first_attempt_at
    return DeliveryStory(
        delivery=delivery,
        attempts=unit.deliveries.attempts(delivery.id),
        event=unit.events.get(query.account_id, delivery.event_id),
        endpoint=endpoints.get(delivery.endpoint_id),
        siblings=[Sibling(each, endpoints.get(each.endpoint_id)) for each in same if each.id != delivery.id],
        coming=()
        if due_at is None or delivery.forged
        else schedule.coming(
            attempts=delivery.attempts + 1,
            first_attempt_at=due_at if first_at is None else first_at,
            due_at=max(due_at, unit.now),
            most=_MOST_COMING,
        ),
        ends_at=None if first_at is None or delivery.finished_at is not None else first_at + WINDOW_S * MS_PER_S,
    )
