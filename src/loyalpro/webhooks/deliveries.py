"""Deliveries: list them, read one with its attempts, retry it, or cancel it."""

from loyalpro.delivery.states import DeliveryStatus, EndpointStatus
from loyalpro.kernel.errors import Conflict, NotFound
from loyalpro.kernel.record import record
from loyalpro.webhooks.entities import Delivery, DeliverySnapshot, PastAttempt
from loyalpro.webhooks.event_types import checked_type
from loyalpro.webhooks.ports import WebhooksUnit


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


def get_delivery(unit: WebhooksUnit, query: DeliveryRef) -> DeliveryDetails:
    """One delivery with its attempts and the origin of its event."""
    delivery = existing_delivery(unit, query.account_id, query.delivery_id)
    event = unit.events.get(query.account_id, delivery.event_id)
    request_id, traceparent = (None, None) if event is None else (event.request_id, event.traceparent)
    return DeliveryDetails(delivery, unit.deliveries.attempts(delivery.id), request_id, traceparent)


def list_deliveries(unit: WebhooksUnit, query: ListDeliveries) -> list[Delivery]:
    """Deliveries, newest first. Raises `InvalidInput` for an event type that does not exist."""
    if query.event_type is not None:
        checked_type(query.event_type, param="type")
    return unit.deliveries.list_before(
        query.account_id,
        query.before_id,
        query.limit,
        endpoint_id=query.endpoint_id,
        event_id=query.event_id,
        event_type=query.event_type,
        status=None if query.status is None else DeliveryStatus(query.status),
    )


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
