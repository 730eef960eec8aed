"""An event as the code that causes it states it, before it has an id and bytes."""

from typing import Any

from loyalpro.events.payload import Payload
from loyalpro.kernel.record import record


@record
class NewEvent:
    """What happened. `sequence` counts a customer's events: 1, 2, 3 ...; None where there is no customer.

    `content`: a payload, or the JSON object of one.
    """

    account_id: str
    type: str
    customer_id: str | None
    sequence: int | None
    content: Payload | dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """The content as a JSON object."""
        return self.content if isinstance(self.content, dict) else self.content.data()


def new_event(account_id: str, payload: Payload, *, customer_id: str | None, sequence: int | None) -> NewEvent:
    """An event with a typed payload: its data satisfies the published schema of its type."""
    return NewEvent(account_id, payload.type, customer_id, sequence, payload)
