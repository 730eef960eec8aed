"""The states of a delivery and of an endpoint, and the moves between them. The database refuses every other move.

                                 ┌── failed, the schedule goes on ──┐
                                 ▼                                  │
    event committed ──────► pending ──► (leased: being sent) ───────┤
    replayed: had none ─────►  ▲ ▲ ▲                                ├──► succeeded   a 2xx in time
                               │ │ └── its worker died: interrupted │
                               │ │                                  └──► exhausted   the 72 hours are over
                               │ └── shown as `parked` while its
                               │     endpoint is not enabled ───────────► exhausted   they ran out while it waited
                               │                                    ┌──► canceled    by its owner, its endpoint was
                               │                                    │                 deleted, or its event erased
                               └── retried or replayed by its owner ┴─── succeeded, exhausted, canceled

An attempt by hand that fails puts a delivery back where it was: pending with its old time, or finished as before. One that
is canceled does the same with what had finished; what was still owed is canceled.

    endpoint:   enabled ⇄ paused, enabled ⇄ disabled, paused ⇄ disabled   by its owner
                enabled ──► disabled                                      410 Gone, or 5 days of nothing but failures

`parked` is not stored: it is what a pending delivery is while its endpoint is paused or disabled. So a pause needs no
mass update, and cannot race with an event that is being committed. In the same way a pending delivery of a deleted
endpoint is `canceled`, until a sweep writes that down. The one truth is the endpoint's row, and `visible_status` is the
one place that reads it so.
"""

from enum import StrEnum


class DeliveryStatus(StrEnum):
    """What the owner of an endpoint sees."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    EXHAUSTED = "exhausted"
    CANCELED = "canceled"
    PARKED = "parked"


class EndpointStatus(StrEnum):
    """Only an enabled endpoint is sent to; the others' deliveries wait."""

    ENABLED = "enabled"
    PAUSED = "paused"
    DISABLED = "disabled"


FINISHED = frozenset({DeliveryStatus.SUCCEEDED, DeliveryStatus.EXHAUSTED, DeliveryStatus.CANCELED})


def visible_status(stored: DeliveryStatus, endpoint: EndpointStatus, *, endpoint_deleted: bool) -> DeliveryStatus:
    """The status of a delivery, given its endpoint's."""
    if stored is not DeliveryStatus.PENDING:
        return stored
    if endpoint_deleted:
        return DeliveryStatus.CANCELED
    if endpoint is not EndpointStatus.ENABLED:
        return DeliveryStatus.PARKED
    return DeliveryStatus.PENDING
