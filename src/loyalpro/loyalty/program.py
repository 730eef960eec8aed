"""An account's programme: what a purchase earns, how long points last, which tiers there are."""

from dataclasses import dataclass

from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.money import minor_units


@dataclass(frozen=True, slots=True)
class EarnRule:
    """`points` for every `per_amount` minor units: a ratio of integers, so nothing is ever rounded on the way."""

    id: str
    name: str
    points: int
    per_amount: int

    def points_for(self, amount: int) -> int:
        """Whole points, rounded down once for the whole order; the remainder is not carried."""
        return amount * self.points // self.per_amount


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier and the points earned in the window that it takes."""

    id: str
    name: str
    threshold: int


@dataclass(frozen=True, slots=True)
class Program:
    """The rules in force."""

    currency: str
    time_zone: str
    earn: EarnRule
    points_valid_months: int | None
    tiers: tuple[Tier, ...]

    def require_currency(self, currency: str) -> None:
        """Points for another currency would need a rate that nobody has set."""
        minor_units(currency)
        if currency != self.currency:
            raise InvalidInput(
                f"The programme runs in {self.currency}; convert the amount, or record it in {self.currency}.",
                code="currency_not_supported",
                param="currency",
            )

    def tier(self, tier_id: str) -> Tier:
        """A tier by its id."""
        return next(tier for tier in self.tiers if tier.id == tier_id)


def default_program(ids: IdFactory) -> Program:
    """What a new account starts with: EUR, UTC, a point for every 1.00, valid 12 months, three tiers."""
    return Program(
        currency="EUR",
        time_zone="UTC",
        earn=EarnRule(ids.new("rule"), "1 point per 1.00 EUR", 1, minor_units("EUR")),
        points_valid_months=12,
        tiers=tuple(
            Tier(ids.new("tier"), name, threshold)
            for name, threshold in (("Bronze", 0), ("Silver", 1_000), ("Gold", 5_000))
        ),
    )
