"""What is stored about one customer's points, as `ledger_check` derives it again."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import DayTotals
from loyalpro.loyalty.expiry import Day
from loyalpro.loyalty.ledger import Allocation, Balance, Entry, Lot


@record
class CheckedCustomer:
    """The columns of a customer that the log has to explain."""

    id: str
    account_id: str
    status: str
    tier_id: str
    balance: Balance
    ledger_sequence: int
    event_sequence: int
    created_at: UnixMs


@record
class LoggedEvent:
    """An event of a customer.

    `data`: of `points.*`, `customer.created` and `customer.tier_changed`; None for other types, and for erased ones.
    """

    sequence: int
    type: str
    created_at: UnixMs
    data: Mapping[str, Any] | None = field(hash=False)


@record
class CheckedPurchase:
    """The columns of a purchase that its refunds and entries have to explain. Amounts are in minor units."""

    id: str
    status: str
    amount: int
    base_amount: int
    refunded_amount: int
    points_earned: int
    points_clawed_back: int
    points_shortfall: int
    program_version: int
    occurred_at: UnixMs


@record
class CheckedRefund:
    """The columns of a refund that its purchase and its entries have to explain."""

    id: str
    transaction_id: str
    amount: int
    points_clawed_back: int
    points_shortfall: int
    points_expired_before: int


@record
class CheckedRedemption:
    """The columns of a redemption that its entries have to explain."""

    id: str
    points: int
    points_returned: int
    status: str
    created_at: UnixMs
    day: Day


@record
class CheckedAdjustment:
    """The columns of an adjustment that its entry has to explain."""

    id: str
    points: int
    counts_toward_tier: bool
    entry_id: str


@record
class CustomerLog:
    """Everything that is stored about one customer's points. Entries and events are in the order of their sequences.

    `inherited`: the entries of the customers that were merged into it, one customer after the other. `of_entries`: the
    allocations of its entries and of the inherited ones; `of_lots`: those of its lots. `time_zones`: that of each version of
    the program.
    """

    customer: CheckedCustomer
    entries: Sequence[Entry]
    inherited: Sequence[Entry]
    lots: Sequence[Lot]
    of_entries: Sequence[Allocation]
    of_lots: Sequence[Allocation]
    events: Sequence[LoggedEvent]
    purchases: Sequence[CheckedPurchase]
    refunds: Sequence[CheckedRefund]
    redemptions: Sequence[CheckedRedemption]
    adjustments: Sequence[CheckedAdjustment]
    days: Sequence[DayTotals]
    time_zones: Mapping[int, str] = field(hash=False)

    @property
    def is_gone(self) -> bool:
        """Whether the customer was merged into another one, which has everything but its entries and events."""
        return self.customer.status == "merged"
