"""What a purchase earns: a pure function of the order, the rules, the tier, the campaigns and the time."""

from dataclasses import field
from typing import Literal

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record


@record
class Rate:
    """`points` for every `per_amount` minor units: a ratio of integers, so that nothing is rounded before the end."""

    points: int
    per_amount: int


@record
class ItemMatch:
    """Takes the lines whose SKU or category is listed."""

    skus: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


@record
class EarnRule:
    """A way to earn. `rates`, by currency: points for an amount. `points_per_item`: points for each piece, instead.

    `match` None: the rule takes every line. `min_spend`, in minor units of the program's currency: what the lines that it takes
    must come to.
    """

    id: str
    name: str
    rates: dict[str, Rate] = field(default_factory=dict, hash=False)
    points_per_item: int | None = None
    match: ItemMatch | None = None
    min_spend: int | None = None


@record
class EarnSettings:
    """The rules, what does not earn, and how the points of an order are put together.

    Amounts are in minor units of the program's currency.
    """

    rules: tuple[EarnRule, ...]
    exclude: ItemMatch | None = None
    min_spend: int | None = None
    rounding: Literal["floor", "half_up", "ceil"] = "floor"
    combine: Literal["highest", "add"] = "highest"
    tax: Literal["included", "excluded"] = "included"
    shipping: Literal["excluded", "earns"] = "excluded"
    gift_card: Literal["included", "excluded"] = "included"
    max_points_per_order: int | None = None
    max_points_per_day: int | None = None
    enrollment_points: int = 0
    conversion: dict[str, str] = field(default_factory=dict, hash=False)


@record
class Campaign:
    """More points for a time: `multiplier_permille` (2000 is twice) for the lines that `match`, or a bonus of `points`.

    `weekdays`: 0 is Monday; empty for every day. `tags` and `tier_ids`: empty for every customer.
    """

    id: str
    account_id: str
    name: str
    kind: Literal["multiplier", "bonus"]
    multiplier_permille: int | None
    points: int | None
    match: ItemMatch | None
    min_spend: int | None
    tags: tuple[str, ...]
    tier_ids: tuple[str, ...]
    starts_at: UnixMs
    ends_at: UnixMs | None
    weekdays: tuple[int, ...]
    limit_per_customer: int | None
    status: Literal["active", "paused", "archived"]
    created_at: UnixMs
    updated_at: UnixMs
