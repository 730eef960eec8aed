"""An account's program: what a purchase earns, how long points last, which tiers there are."""

from typing import Final

from loyalpro.kernel.errors import InvalidInput, LoyalProError
from loyalpro.kernel.ids import IdFactory
from loyalpro.kernel.record import record
from loyalpro.loyalty.money import minor_units

_DEFAULT_TIERS: Final = (("Bronze", 0), ("Silver", 1_000), ("Gold", 5_000))


class ProgramMissing(LoyalProError):
    """The account has no program, or its program has no such tier."""


@record
class EarnRule:
    """`points` for every `per_amount` minor units: a ratio of integers, so that nothing is rounded before the end."""

    id: str
    name: str
    points: int
    per_amount: int

    def points_for(self, amount: int) -> int:
        """Whole points for an amount in minor units, rounded down once for the whole order."""
        return amount * self.points // self.per_amount


@record
class Tier:
    """A tier, and the points that a customer must earn in the window to reach it. Rank 1 is the lowest."""

    id: str
    name: str
    threshold: int
    rank: int


@record
class Program:
    """The rules in force. `points_valid_months` None: points do not expire."""

    currency: str
    time_zone: str
    earn: EarnRule
    points_valid_months: int | None
    tiers: tuple[Tier, ...]

    def require_currency(self, currency: str) -> None:
        """Raise `InvalidInput` for a currency that the program has no rate for, or that ISO 4217 does not have."""
        minor_units(currency)
        if currency != self.currency:
            raise InvalidInput(
                f"The program runs in {self.currency}; convert the amount, or record it in {self.currency}.",
                code="currency_not_supported",
                param="currency",
            )

    def tier(self, tier_id: str) -> Tier:
        """A tier by its id. Raises `ProgramMissing`."""
        for tier in self.tiers:
            if tier.id == tier_id:
                return tier
        raise ProgramMissing(f"The program has no tier {tier_id}.")


def default_program(ids: IdFactory) -> Program:
    """The program of a new account: EUR, UTC, a point for every 1.00, valid 12 months, three tiers."""
    return Program(
        currency="EUR",
        time_zone="UTC",
        earn=EarnRule(ids.new("rule"), "1 point per 1.00 EUR", 1, minor_units("EUR")),
        points_valid_months=12,
        tiers=tuple(
            Tier(ids.new("tier"), name, threshold, rank) for rank, (name, threshold) in enumerate(_DEFAULT_TIERS, 1)
        ),
    )
