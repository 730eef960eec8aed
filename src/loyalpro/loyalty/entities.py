"""What the program stores of customers, purchases and erasures."""

from typing import Any, Literal

from loyalpro.events.customer import CustomerStatus
from loyalpro.events.transaction import Item
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.ledger import Balance
from loyalpro.loyalty.program import Tier


@record
class Customer:
    """A customer. `ledger_sequence` and `event_sequence` are the numbers of the last entry and the last event."""

    id: str
    account_id: str
    external_id: str | None
    email: str | None
    phone: str | None
    name: str | None
    metadata: dict[str, Any]
    status: CustomerStatus
    tier: Tier
    balance: Balance
    ledger_sequence: int
    event_sequence: int
    created_at: UnixMs
    updated_at: UnixMs


@record
class Transaction:
    """A purchase. `amount` is in minor units of `currency`. `actor`: who recorded it; None for old purchases."""

    id: str
    account_id: str
    customer_id: str
    external_id: str | None
    status: Literal["completed"]
    currency: str
    amount: int
    items: list[Item]
    channel: str | None
    location_id: str | None
    employee_id: str | None
    metadata: dict[str, Any]
    points_earned: int
    occurred_at: UnixMs
    created_at: UnixMs
    actor: str | None


@record
class Erasure:
    """How far the erasure of a deleted customer's past is.

    Events are erased up to `through_sequence`. The cursors are the ids of the last event and the last purchase that were
    erased. `events` and `canceled` count the events that were erased and their deliveries that were canceled.
    """

    customer_id: str
    account_id: str
    through_sequence: int
    event_cursor: str | None
    transaction_cursor: str | None
    events: int
    canceled: int


@record
class StoredBody:
    """The frozen body of a stored event."""

    event_id: str
    body: bytes
