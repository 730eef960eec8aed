"""The states of a delivery and of an endpoint, and the moves between them.

    delivery                                        endpoint

              ┌── attempt failed, retry later ─┐      enabled ⇄ paused
              ▼                                │        │  ▲       │
    ──► pending ──► (leased: being sent) ──────┤        │  └───────┤ by its owner
          ▲                                    │        ▼          ▼
          │ shown as `parked` while            │      disabled  (410 Gone, or its owner)
          │ its endpoint is not enabled        │
                                               ├──► succeeded   a 2xx in time
                                               ├──► exhausted   72 hours have passed
                                               └──► canceled    its endpoint was deleted

`parked` is not stored: it is what a pending delivery is while its endpoint is paused or disabled. So a pause needs no
mass update, and cannot race with an event that is being committed. In the same way a pending delivery of a deleted
endpoint is `canceled`. The one truth is the endpoint's row, and `visible_status` is the one place that reads it so.
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


STORED_STATUSES = frozenset(
    {DeliveryStatus.PENDING, DeliveryStatus.SUCCEEDED, DeliveryStatus.EXHAUSTED, DeliveryStatus.CANCELED}
)


def visible_status(stored: DeliveryStatus, endpoint: EndpointStatus, *, endpoint_deleted: bool) -> DeliveryStatus:
    """The status of a delivery, given its endpoint's."""
    if stored is not DeliveryStatus.PENDING:
        return stored
    if endpoint_deleted:
        return DeliveryStatus.CANCELED
    if endpoint is not EndpointStatus.ENABLED:
        return DeliveryStatus.PARKED
    return DeliveryStatus.PENDING
