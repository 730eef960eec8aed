"""The states of a delivery and of an endpoint, and the moves between them. Triggers in the database refuse all others.

                                 ┌── failed, to be retried later ───┐
                                 ▼                                  │
    event committed ──────► pending ──► (leased: being sent) ───────┤
    replayed without one ───►  ▲ ▲ ▲                                ├──► succeeded   a 2xx in time
                               │ │ └── its worker died: interrupted │
                               │ │                                  └──► exhausted   the retry window is over
                               │ └── shown as `parked` while its
                               │     endpoint is not enabled ───────────► exhausted   the window closed meanwhile
                               │                                    ┌──► canceled    by its owner, its endpoint was
                               │                                    │                 deleted, or its event erased
                               └── retried or replayed by its owner ┴─── succeeded, exhausted, canceled

A manual attempt that fails restores the state of the delivery: pending with its earlier due time, or finished as before. A
manual attempt that is canceled restores a finished state; a delivery that was still pending is canceled.

    endpoint:   enabled ⇄ paused, enabled ⇄ disabled, paused ⇄ disabled   by its owner
                enabled ──► disabled                                      410 Gone, or 5 days of nothing but failures

`parked` is not stored: it is the status of a pending delivery while its endpoint is paused or disabled. So a pause needs no
mass update, and cannot race with an event that is being committed. In the same way a pending delivery of a deleted
endpoint is `canceled`, before a periodic job stores that. Only `visible_status` derives the status from the endpoint's row.
"""

from enum import StrEnum


class DeliveryStatus(StrEnum):
    """The status of a delivery as the API shows it."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    EXHAUSTED = "exhausted"
    CANCELED = "canceled"
    PARKED = "parked"


class EndpointStatus(StrEnum):
    """Deliveries are sent to an enabled endpoint only; those of the others wait."""

    ENABLED = "enabled"
    PAUSED = "paused"
    DISABLED = "disabled"


FINISHED = frozenset({DeliveryStatus.SUCCEEDED, DeliveryStatus.EXHAUSTED, DeliveryStatus.CANCELED})


def visible_status(stored: DeliveryStatus, endpoint: EndpointStatus, *, endpoint_deleted: bool) -> DeliveryStatus:
    """Return the status of a delivery, from what is stored of it and of its endpoint."""
    if stored is not DeliveryStatus.PENDING:
        return stored
    if endpoint_deleted:
        return DeliveryStatus.CANCELED
    if endpoint is not EndpointStatus.ENABLED:
        return DeliveryStatus.PARKED
    return DeliveryStatus.PENDING
