"""What the program stores of customers, purchases and erasures."""

from collections.abc import Mapping
from typing import Any, Literal

from loyalpro.events.customer import CustomerStatus
from loyalpro.events.transaction import Item
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.expiry import Day
from loyalpro.loyalty.ledger import Balance, EntryType
from loyalpro.loyalty.tiers import Tier


@record
class Customer:
    """A customer. `ledger_sequence` and `event_sequence` are the numbers of the last entry and the last event.

    `email_key` and `phone_key`: the normalized values, by which customers are found. `next_due_at`: nothing in the customer's
    lots becomes active or expires before it. `points_expire_at`: when all points expire, under a policy of inactivity.
    `tier_review_at`: when the tier is reviewed; None for never. `security_changed_at`: the last change of e-mail or phone.
    """

    id: str
    account_id: str
    external_id: str | None
    email: str | None
    phone: str | None
    name: str | None
    metadata: dict[str, Any]
    tier: Tier
    created_at: UnixMs
    updated_at: UnixMs
    status: CustomerStatus = "active"
    balance: Balance = Balance()
    ledger_sequence: int = 0
    event_sequence: int = 0
    email_key: str | None = None
    phone_key: str | None = None
    tags: tuple[str, ...] = ()
    merged_into_id: str | None = None
    tier_since: UnixMs = 0
    tier_review_at: UnixMs | None = None
    tier_locked_until: UnixMs | None = None
    tier_lock_reason: str | None = None
    points_expire_at: UnixMs | None = None
    next_due_at: UnixMs | None = None
    first_purchase_at: UnixMs | None = None
    last_purchase_at: UnixMs | None = None
    security_changed_at: UnixMs | None = None
    earning_blocked: bool = False
    redeeming_blocked: bool = False


@record
class CustomerFilter:
    """Which customers to list: every field that is not None has to match. `updated_since`: changed then or later."""

    external_id: str | None = None
    email_key: str | None = None
    phone_key: str | None = None
    tag: str | None = None
    tier_id: str | None = None
    updated_since: UnixMs | None = None

    @property
    def is_combined(self) -> bool:
        """Whether the customers that one index finds have to be examined further."""
        exact = (self.external_id, self.email_key, self.phone_key, self.tag, self.tier_id)
        return self.updated_since is not None or sum(each is not None for each in exact) > 1


TransactionStatus = Literal["completed", "partially_refunded", "refunded"]
TransactionSource = Literal["api", "dashboard", "import"]


@record
class Transaction:
    """A purchase. Amounts are in minor units of `currency`; `base_amount` in those of the program's currency.

    `priced`: the multipliers and campaigns of its points; None when there were none. `payment_fingerprint` and `device_id`:
    keyed hashes. `actor`: what recorded it; None for purchases of old versions.
    """

    id: str
    account_id: str
    customer_id: str
    external_id: str | None
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
    status: TransactionStatus = "completed"
    tax_amount: int = 0
    shipping_amount: int = 0
    tip_amount: int = 0
    gift_card_amount: int = 0
    points_discount_amount: int = 0
    eligible_amount: int = 0
    base_amount: int = 0
    program_version: int = 1
    priced: dict[str, Any] | None = None
    source: TransactionSource = "api"
    payment_fingerprint: bytes | None = None
    device_id: bytes | None = None
    refunded_amount: int = 0
    points_clawed_back: int = 0
    points_restored: int = 0
    points_shortfall: int = 0


class ReturnedItem(Item):
    """What was returned of a line of a purchase. `line`: its place among the items of the purchase, from 0."""

    line: int


@record
class PastOrder:
    """What of a purchase decides about its points. Amounts are in minor units of `currency`."""

    id: str
    customer_id: str
    currency: str
    amount: int
    tax_amount: int
    shipping_amount: int
    tip_amount: int
    gift_card_amount: int
    items: list[Item]
    occurred_at: UnixMs


@record
class Buyer:
    """What of a customer decides about the points of a purchase, and about the tier."""

    id: str
    tier_id: str
    tags: tuple[str, ...]
    enrolled_at: UnixMs


@record
class Refund:
    """A refund of a purchase. `amount`: minor units of the purchase's currency. `items`: what was returned.

    `points_expired_before`: what would have been taken if it had not expired or been canceled before. `fingerprint`: SHA-256 of
    what was requested.
    """

    id: str
    account_id: str
    transaction_id: str
    customer_id: str
    external_id: str | None
    fingerprint: bytes
    amount: int
    items: list[ReturnedItem]
    reason: str | None
    actor: str
    points_clawed_back: int
    points_restored: int
    points_shortfall: int
    points_expired_before: int
    occurred_at: UnixMs
    created_at: UnixMs


RewardType = Literal["amount_off", "percent_off", "free_item", "custom"]
RewardStatus = Literal["draft", "active", "archived"]


@record
class Reward:
    """What customers can have for points. `amount`: minor units of `currency`. `stock` None: unlimited.

    `min_spend`: minor units of `currency`, or of the program's currency when the reward has none. `tier_ids`: the customer
    is in one of these tiers; `tags`: the customer has one of these tags; empty for all. `limit_per_customer` counts
    redemptions that were not returned.
    """

    id: str
    account_id: str
    name: str
    type: RewardType
    amount: int | None
    currency: str | None
    percent: int | None
    sku: str | None
    cost_points: int
    min_spend: int | None
    tier_ids: tuple[str, ...]
    tags: tuple[str, ...]
    stock: int | None
    limit_per_customer: int | None
    starts_at: UnixMs | None
    ends_at: UnixMs | None
    status: RewardStatus
    created_at: UnixMs
    updated_at: UnixMs


RedemptionStatus = Literal["reserved", "redeemed", "reversed", "canceled", "expired"]


@record
class Redemption:
    """Points that were exchanged. `reward`: the reward as it was, as events show it.

    `reserved_until`: when the reservation ends or would have ended; None for points that were redeemed at once.
    `captured_at`: when they were redeemed. `ended_at`: when the redemption was canceled, expired or reversed.
    `points_returned`: how many came back. `day`: the local day on which it counts, whatever time zone the program has later.
    """

    id: str
    account_id: str
    customer_id: str
    reward_id: str | None
    reward: dict[str, Any] | None
    points: int
    status: RedemptionStatus
    transaction_id: str | None
    code: str | None
    external_id: str | None
    reserved_until: UnixMs | None
    captured_at: UnixMs | None
    ended_at: UnixMs | None
    actor: str
    created_at: UnixMs
    day: Day
    points_returned: int = 0


@record
class PointsAdjustment:
    """Points that were given or taken by hand; `points` is signed. `lot_id`: what a credit made. The entry holds the note.

    `expires_at`: what the request asked for; None for the expiry policy.
    """

    id: str
    account_id: str
    customer_id: str
    external_id: str | None
    points: int
    reason_code: str
    expires_at: UnixMs | None
    counts_toward_tier: bool
    allow_negative: bool
    entry_id: str
    lot_id: str | None
    actor: str
    created_at: UnixMs


@record
class DayTotals:
    """What happened to a customer on a local day, or what is to be added to it."""

    customer_id: str
    day: int
    account_id: str
    purchases: int = 0
    spend: int = 0
    points_qualifying: int = 0
    refunds: int = 0
    refunded: int = 0
    redemptions: int = 0
    points_redeemed: int = 0


@record
class Retier:
    """A job that applies changed tiers. `cursor`: the id of the last customer that it was done for, or an empty text."""

    id: str
    account_id: str
    cursor: str


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


JobStatus = Literal["queued", "running", "done", "failed", "canceled"]


@record
class Job:
    """Work in pieces, each of which is a database transaction that moves `cursor`. Only the code of its kind reads `cursor`.

    `total`: how many rows there are, if that is known at the beginning. `done`: how many were taken over; `unchanged`: how many
    were there already; `refused`: how many were refused. `result`: why it failed.
    """

    id: str
    account_id: str
    kind: str
    status: JobStatus
    params: dict[str, Any]
    cursor: str
    total: int | None
    actor: str
    created_at: UnixMs
    updated_at: UnixMs
    done: int = 0
    unchanged: int = 0
    refused: int = 0
    result: str | None = None
    finished_at: UnixMs | None = None


@record
class RowRefusal:
    """A row of an import that was refused. `line`: where it stands, 1 is the first."""

    line: int
    code: str
    detail: str
    param: str | None


@record
class LedgerSums:
    """What some customers' ledgers add up to: the points of each type of entry, and the balances after the last entries."""

    by_type: Mapping[EntryType, int]
    available: int
    pending: int
    debt: int


@record
class Activity:
    """What happened in a period: how many enrolled, bought and redeemed, and the points of it. Points that are held count."""

    enrolled: int
    purchases: int
    points_earned: int
    redemptions: int
    points_redeemed: int


@record
class LiabilityPage:
    """The sums of a page of customers, what their lots hold by `expires_at`, and the last customer; None on the last page."""

    sums: LedgerSums
    held: Mapping[UnixMs, int]
    last_id: str | None


@record
class ExportRows:
    """Rows of an export, each a JSON object, and the key of the last one; None when there are no more."""

    rows: list[dict[str, Any]]
    last_key: Any
