"""What fraud rules are measured with: facts about events, the counts that rules ask for, and which counts a batch needs.

`Measures` answers one event at a time. What stands behind it reads each measure for a whole batch at once, and only for the
customers for whom `purchases_since` and the conditions in `judgment` say that a rule could fire.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal, Protocol

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.expiry import Day, day_of, day_start
from loyalpro.loyalty.fraud.durations import HOUR, MINUTE, DurationMs
from loyalpro.loyalty.fraud.rules import AmountOutlier, RuleSet, SelfAccrual, VelocityEarn

LIVE: Final[DurationMs] = 48 * HOUR
"""An event that happened longer ago, when it is recorded, sets no rule off."""

OUTLIER_SAMPLE: Final = 20
"""How many of a customer's last purchases an unusual amount is compared with."""

SightingKind = Literal["email", "phone", "device", "payment", "receipt"]


@record
class Sighting:
    """A value that should be one customer's only, as its hash."""

    kind: SightingKind
    hash: bytes


@record
class SeenCustomer:
    """An active customer with whom a value was seen, and the object that it was last seen in."""

    customer_id: str
    object_id: str


@record
class PurchaseFact:
    """A recorded purchase. `base_amount`: minor units of the program's currency; 0 where it has no conversion."""

    id: str
    customer_id: str
    occurred_at: UnixMs
    base_amount: int
    points: int
    employee_id: str | None = None
    imported: bool = False


@record
class NewPurchase:
    """A purchase that is being recorded, and what is known of its customer before it.

    `lifetime_earned`: points. `last_purchase_at`: the latest purchase that was stored before this database transaction.
    """

    fact: PurchaseFact
    lifetime_earned: int
    last_purchase_at: UnixMs | None
    sightings: tuple[Sighting, ...] = ()


@record
class NewRedemption:
    """A redemption that is being made. `available`: points before it. `active_at`: the last purchase, or the enrollment."""

    id: str
    customer_id: str
    points: int
    available: int
    active_at: UnixMs
    security_changed_at: UnixMs | None


@record
class NewRefund:
    """A refund that has been posted. Debts are in points."""

    id: str
    customer_id: str
    occurred_at: UnixMs
    debt_before: int
    debt: int


@record
class NewCredit:
    """Points that are being credited by hand."""

    id: str
    customer_id: str
    actor: str
    points: int


@record
class Moment:
    """Something that happened earlier: its id and when."""

    id: str
    at: UnixMs


@record
class Credit:
    """Points that were credited by hand."""

    id: str
    points: int


@record
class Spending:
    """What a customer bought and returned: purchases, their amounts and what was refunded of them, in minor units."""

    purchases: int = 0
    gross: int = 0
    refunded: int = 0


class Measures(Protocol):
    """What happened before the event that is judged, the earlier events of the same command included."""

    def purchases_of(self, customer_id: str) -> Sequence[PurchaseFact]:
        """The customer's newest purchases, newest first: `newest_purchases` or more, if there are so many."""
        ...

    def points_on(self, customer_id: str, day: Day) -> int:
        """The points that a customer's purchases of a local day earned, less what is held or was clawed back."""
        ...

    def seen(self, sighting: Sighting, since: UnixMs) -> Sequence[SeenCustomer]:
        """Active customers with whom a value was seen after `since`: all of them, or more than a rule needs."""
        ...

    def redemptions_of(self, customer_id: str, count: int) -> Sequence[Moment]:
        """The customer's newest redemptions, at most `count`, newest first."""
        ...

    def spending_of(self, customer_id: str, first_day: Day) -> Spending:
        """What a customer bought from a local day on, and what was returned of it."""
        ...

    def credits_by(self, actor: str, since: UnixMs, count: int) -> Sequence[Credit]:
        """The newest credits by hand of an actor after `since`, at most `count`, newest first."""
        ...


def is_live(occurred_at: UnixMs, now: UnixMs, *, imported: bool = False) -> bool:
    """Whether an event sets rules off, and is counted in their windows."""
    return occurred_at > now - LIVE and not imported


def is_within(at: UnixMs, window: DurationMs, now: UnixMs) -> bool:
    """Whether an instant lies in `(now - window, now]`. One after now is that of a clock that is ahead, and counts as now."""
    return at > now - window


def purchases_since(rules: RuleSet, purchase: NewPurchase, now: UnixMs, time_zone: str) -> UnixMs | None:
    """Since when the customer's purchases must be known to judge this one; None when no earlier one can matter."""
    last, fact = purchase.last_purchase_at, purchase.fact
    if last is None or not is_live(fact.occurred_at, now, imported=fact.imported):
        return None
    starts = [each for each in _starts(rules, fact, now, time_zone) if last >= each]
    return min(starts, default=None)


def _starts(rules: RuleSet, fact: PurchaseFact, now: UnixMs, time_zone: str) -> Iterable[UnixMs]:
    velocity = rules.enabled(VelocityEarn)
    if velocity:
        yield now - max(velocity.params.window, velocity.params.long_window) + 1
    if fact.employee_id is not None and rules.enabled(SelfAccrual):
        yield day_start(day_of(fact.occurred_at, time_zone), time_zone)
    outlier = rules.enabled(AmountOutlier)
    if outlier and fact.base_amount > outlier.params.floor:
        yield 0


def newest_purchases(rules: RuleSet) -> int:
    """How many of a customer's newest purchases are enough for every rule that is enabled.

    Twice the highest threshold, because purchases that earn nothing lie between those that are counted.
    """
    velocity, accrual = rules.enabled(VelocityEarn), rules.enabled(SelfAccrual)
    thresholds = [OUTLIER_SAMPLE // 2]
    if velocity:
        thresholds += [velocity.params.threshold, velocity.params.long_threshold]
    if accrual:
        thresholds.append(accrual.params.threshold)
    return 2 * max(thresholds)


@lru_cache(maxsize=4_096)
def receipt(location_id: str, amount: int, currency: str, occurred_at: UnixMs) -> Sighting:
    """What two purchases with one receipt share: location, amount and minute. None of it is secret, so the hash has no key.

    Cached, because each purchase of a command is looked at when it is planned and when it is judged.
    """
    minute = occurred_at - occurred_at % MINUTE
    return Sighting("receipt", sha256(f"{location_id}\0{amount}\0{currency}\0{minute}".encode()).digest())


def signal(text: str | None) -> str | None:
    """A text that identifies something; a blank one is missing."""
    return text if text and not text.isspace() else None


def sightings_of(
    location_id: str | None,
    amount: int,
    currency: str,
    occurred_at: UnixMs,
    device: bytes | None,
    payment: bytes | None,
) -> tuple[Sighting, ...]:
    """The values that a purchase shows: its device, its payment, and its receipt if a location is known."""
    values: tuple[tuple[SightingKind, bytes | None], ...] = (("device", device), ("payment", payment))
    found = [Sighting(kind, value) for kind, value in values if value is not None]
    if location_id is not None:
        found.append(receipt(location_id, amount, currency, occurred_at))
    return tuple(found)


@record
class PastEvent:
    """An event that was recorded at an instant, as a rule sees it.

    `refunded`: of a refund, in minor units of the program's currency. `bought_at`: when the refunded purchase was made.
    """

    at: UnixMs
    event: NewPurchase | NewRedemption | NewRefund | NewCredit
    refunded: int = 0
    bought_at: UnixMs = 0
