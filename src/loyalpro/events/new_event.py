"""An event as the programme states it, before it has an id and bytes."""

from typing import Any

from loyalpro.kernel.record import record


@record
class NewEvent:
    """What happened. `sequence` counts a customer's events: 1, 2, 3 ...; None where there is no customer."""

    account_id: str
    type: str
    customer_id: str | None
    sequence: int | None
    data: dict[str, Any]
