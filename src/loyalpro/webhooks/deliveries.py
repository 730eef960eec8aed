"""Deliveries: list them, read one with its attempts, retry it, or cancel it."""

from collections.abc import Callable, Sequence
from typing import Final

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.states import DeliveryStatus, EndpointStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound, Refused
from loyalpro.kernel.ids import made_at
from loyalpro.kernel.record import record
from loyalpro.webhooks.entities import Delivery, DeliveryFilter, DeliverySnapshot, PastAttempt
from loyalpro.webhooks.event_types import checked_type
from loyalpro.webhooks.ports import WebhooksUnit

MOST_EXAMINED: Final = 5_000
"""How many deliveries a search examines before it says how far it looked."""
MOST_EVENTS_EXAMINED: Final = 1_000
"""The same for the deliveries of one customer, by the customer's events."""


@record
class DeliveryRef:
    """Names one delivery."""

    account_id: str
    delivery_id: str


@record
class ListDeliveries:
    """A page of an account's deliveries that match every filter: those older than `before_id`."""

    account_id: str
    before_id: str | None
    limit: int
    endpoint_id: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    status: str | None = None
    outcome: str | None = None
    customer_id: str | None = None
    since: UnixMs | None = None
    until: UnixMs | None = None

    @property
    def wanted(self) -> DeliveryFilter:
        """The filters."""
        return DeliveryFilter(
            endpoint_id=self.endpoint_id,
            event_id=self.event_id,
            event_type=self.event_type,
            status=None if self.status is None else DeliveryStatus(self.status),
            outcome=self.outcome,
            customer_id=self.customer_id,
            since=self.since,
            until=self.until,
        )


@record
class DeliveryPage:
    """Deliveries, newest first. `next_before_id`: where the next page begins; None at the end of the list.

    `looked_back_to`: set when the search ended because it had examined enough; older deliveries may match, too.
    """

    deliveries: Sequence[Delivery]
    next_before_id: str | None
    looked_back_to: UnixMs | None


@record
class DeliveryDetails:
    """A delivery and all its attempts, first to last.

    `request_id`, `traceparent`: those of the request that caused the event; None without one, or when the event was erased.
    """

    delivery: Delivery
    attempts: list[PastAttempt]
    request_id: str | None
    traceparent: str | None


def retry_delivery(unit: WebhooksUnit, command: DeliveryRef) -> Delivery:
    """Make one attempt now, whatever the status is, even while the breaker is open. A failure restores the earlier status."""
    snapshot = _locked(unit, command)
    require_retryable(snapshot)
    unit.deliveries.make_due(snapshot, unit.now)
    unit.audit(command.account_id, "delivery.retried", command.delivery_id)
    unit.wake_endpoints([snapshot.endpoint_id], urgent=True)
    return existing_delivery(unit, command.account_id, command.delivery_id)


def cancel_delivery(unit: WebhooksUnit, command: DeliveryRef) -> Delivery:
    """End a pending delivery. An attempt that is under way ends, and is recorded, but the delivery stays canceled."""
    snapshot = _locked(unit, command)
    if needs_cancel(snapshot):
        unit.deliveries.cancel(snapshot, unit.now)
        unit.audit(command.account_id, "delivery.canceled", command.delivery_id)
        unit.wake_endpoints([snapshot.endpoint_id])
    return existing_delivery(unit, command.account_id, command.delivery_id)


def retry_deliveries(unit: WebhooksUnit, account_id: str, ids: Sequence[str]) -> list[Refused | None]:
    """Retry each of these deliveries that can be sent now; for each, why it cannot be sent, or None."""
    return [_tried(lambda command: retry_delivery(unit, command), account_id, each) for each in sorted(set(ids))]


def cancel_deliveries(unit: WebhooksUnit, account_id: str, ids: Sequence[str]) -> list[Refused | None]:
    """Cancel each of these deliveries that is pending; for each, why it cannot be canceled, or None."""
    return [_tried(lambda command: cancel_delivery(unit, command), account_id, each) for each in sorted(set(ids))]


def _tried(act: Callable[[DeliveryRef], Delivery], account_id: str, delivery_id: str) -> Refused | None:
    """Why the change was refused. A change that is refused has written nothing."""
    try:
        act(DeliveryRef(account_id, delivery_id))
    except (Conflict, NotFound) as error:
        return error
    return None


def get_delivery(unit: WebhooksUnit, query: DeliveryRef) -> DeliveryDetails:
    """One delivery with its attempts and the origin of its event."""
    delivery = existing_delivery(unit, query.account_id, query.delivery_id)
    event = unit.events.get(query.account_id, delivery.event_id)
    request_id, traceparent = (None, None) if event is None else (event.request_id, event.traceparent)
    return DeliveryDetails(delivery, unit.deliveries.attempts(delivery.id), request_id, traceparent)


def find_deliveries(unit: WebhooksUnit, query: ListDeliveries) -> DeliveryPage:
    """Deliveries, newest first, as far as a search goes.

    Raises `InvalidInput` for an event type or an outcome that does not exist.
    """
    if query.event_type is not None:
        checked_type(query.event_type, param="type")
    if query.outcome is not None and query.outcome not in list(OutcomeCode):
        raise InvalidInput(
            f"There is no outcome {query.outcome!r}. One of: {', '.join(OutcomeCode)}.",
            code="invalid_field",
            param="outcome",
        )
    bound = _bound(unit, query)
    found = unit.deliveries.list_before(query.account_id, query.before_id, query.limit + 1, query.wanted, from_id=bound)
    if len(found) > query.limit:
        shown = found[: query.limit]
        return DeliveryPage(shown, shown[-1].id, None)
    return DeliveryPage(found, bound, None if bound is None else made_at(bound))


def list_deliveries(unit: WebhooksUnit, query: ListDeliveries) -> Sequence[Delivery]:
    """The deliveries of `find_deliveries`."""
    return find_deliveries(unit, query).deliveries


def count_newer(unit: WebhooksUnit, query: ListDeliveries, after_id: str) -> int:
    """How many deliveries match that are newer than `after_id`; at most `query.limit`, and only among the newest ones."""
    bound = _bound(unit, query)
    return unit.deliveries.count_after(query.account_id, after_id, query.wanted, query.limit, from_id=bound)


def _bound(unit: WebhooksUnit, query: ListDeliveries) -> str | None:
    """The oldest delivery that a search examines; None when each one that it examines matches, or when there are few."""
    wanted = query.wanted
    if wanted.event_id is not None:
        return None
    if wanted.customer_id is not None:
        return unit.deliveries.bound(query.account_id, query.before_id, wanted, MOST_EVENTS_EXAMINED)
    by_index = DeliveryFilter(endpoint_id=wanted.endpoint_id, since=wanted.since, until=wanted.until)
    if wanted == by_index:
        return None
    return unit.deliveries.bound(query.account_id, query.before_id, wanted, MOST_EXAMINED)


def existing_delivery(unit: WebhooksUnit, account_id: str, delivery_id: str) -> Delivery:
    """The delivery, or `NotFound`."""
    delivery = unit.deliveries.get(account_id, delivery_id)
    if delivery is None:
        raise _no_delivery(delivery_id)
    return delivery


def require_retryable(snapshot: DeliverySnapshot) -> None:
    """Raise `Conflict` for a delivery that cannot be sent now; the error says what to do instead."""
    require_enabled(snapshot.endpoint_id, snapshot.endpoint)
    if snapshot.under_way:
        raise Conflict(
            "This delivery is being sent right now; wait for its outcome, then retry it if that is needed.",
            code="delivery_in_flight",
        )
    if not snapshot.event_kept:
        raise Conflict("The event of this delivery is no longer kept, so it cannot be sent.", code="event_expired")
    if snapshot.waits_for is not None:
        raise Conflict(
            "The endpoint gets a customer's events in order, and an earlier one is still pending: "
            f"retry or cancel {snapshot.waits_for} first.",
            code="delivery_waits_its_turn",
        )


def require_enabled(endpoint_id: str, status: EndpointStatus | None) -> None:
    """Raise `Conflict` for an endpoint that is deleted (`status` is None), paused or disabled."""
    if status is None:
        raise Conflict(f"The endpoint {endpoint_id} is deleted; nothing can be sent to it.", code="endpoint_deleted")
    if status is not EndpointStatus.ENABLED:
        raise Conflict(
            f"The endpoint {endpoint_id} is {status}; enable it with PATCH /v1/webhook_endpoints/{endpoint_id} "
            '{"status": "enabled"}: its pending deliveries are then sent.',
            code="endpoint_not_enabled",
        )


def needs_cancel(snapshot: DeliverySnapshot) -> bool:
    """Whether the delivery must be canceled; False when it is canceled already. Raises `Conflict` when it has ended otherwise.

    A pending delivery of a deleted endpoint is canceled too: otherwise an attempt under way could still change its status.
    """
    if snapshot.status is DeliveryStatus.CANCELED:
        return False
    if snapshot.status is not DeliveryStatus.PENDING:
        raise Conflict(
            f"This delivery has {snapshot.status}; only one that is pending or parked can be canceled.",
            code="delivery_finished",
        )
    return True


def _locked(unit: WebhooksUnit, command: DeliveryRef) -> DeliverySnapshot:
    snapshot = unit.deliveries.lock(command.account_id, command.delivery_id)
    if snapshot is None:
        raise _no_delivery(command.delivery_id)
    return snapshot


def _no_delivery(delivery_id: str) -> NotFound:
    return NotFound(f"There is no delivery {delivery_id}.", param="id")
