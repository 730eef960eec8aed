"""What an owner may do with a delivery by hand, and why not: pure functions of where the delivery stands."""

from dataclasses import dataclass

from loyalpro.delivery.states import FINISHED, DeliveryStatus, EndpointStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import Conflict


@dataclass(frozen=True, slots=True)
class Standing:
    """A delivery while nobody else may move it.

    `endpoint` is None when it is deleted. `fallback`: what it was before an attempt by hand was asked for that has not
    ended yet. `waits_for`: an earlier delivery of the same customer that has to end first.
    """

    delivery_id: str
    endpoint_id: str
    customer_id: str | None
    status: DeliveryStatus
    due_at: UnixMs | None
    endpoint: EndpointStatus | None
    being_sent: bool
    fallback: DeliveryStatus | None
    waits_for: str | None
    event_kept: bool

    @property
    def under_way(self) -> bool:
        """Whether it is being sent, or about to be because its owner said so."""
        return self.being_sent or self.fallback is not None

    @property
    def once_canceled(self) -> DeliveryStatus:
        """What it is when it is canceled: what had ended before it was sent by hand has ended as it had."""
        return self.fallback if self.fallback in FINISHED else DeliveryStatus.CANCELED


def check_retry(standing: Standing) -> None:
    """Refuse what cannot be sent now, and say what to do instead."""
    check_endpoint(standing.endpoint_id, standing.endpoint)
    if standing.under_way:
        raise Conflict(
            "This delivery is being sent right now; wait for its outcome, then retry it if that is needed.",
            code="delivery_in_flight",
        )
    if not standing.event_kept:
        raise Conflict("The event of this delivery is no longer kept, so it cannot be sent.", code="event_expired")
    if standing.waits_for is not None:
        raise Conflict(
            "The endpoint gets a customer's events in order, and an earlier one is still pending: "
            f"retry or cancel {standing.waits_for} first.",
            code="delivery_waits_its_turn",
        )


def check_endpoint(endpoint_id: str, endpoint: EndpointStatus | None) -> None:
    """Nothing is sent by hand to an endpoint that is not enabled."""
    if endpoint is None:
        raise Conflict(f"The endpoint {endpoint_id} is deleted; nothing can be sent to it.", code="endpoint_deleted")
    if endpoint is not EndpointStatus.ENABLED:
        raise Conflict(
            f"The endpoint {endpoint_id} is {endpoint}; enable it with PATCH /v1/webhook_endpoints/{endpoint_id} "
            '{"status": "enabled"}: what it is owed is then sent.',
            code="endpoint_not_enabled",
        )


def needs_cancel(standing: Standing) -> bool:
    """Whether there is something to cancel; False when that has been done.

    What a deleted endpoint is owed has to be canceled too: one that is under way would else end as it is answered.
    """
    if standing.status is DeliveryStatus.CANCELED:
        return False
    if standing.status is not DeliveryStatus.PENDING:
        raise Conflict(
            f"This delivery has {standing.status}; only one that is pending or parked can be canceled.",
            code="delivery_finished",
        )
    return True
