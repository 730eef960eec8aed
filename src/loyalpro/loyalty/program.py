"""An account's program: what purchases earn, how long points last, which tiers there are, and what a refund takes back."""

from typing import Final, Literal

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import InvalidInput, LoyalProError
from loyalpro.kernel.ids import IdFactory
from loyalpro.kernel.record import record
from loyalpro.loyalty.earning import EarnRule, EarnSettings, Rate
from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.money import minor_units
from loyalpro.loyalty.tiers import Tier, TierPolicy

SCHEMA: Final = 1
"""The form in which versions of the rules are stored."""

_DEFAULT_TIERS: Final = (("Bronze", 0), ("Silver", 1_000), ("Gold", 5_000))


class ProgramMissing(LoyalProError):
    """The account has no program, or its program has no such tier."""


@record
class RefundPolicy:
    """What a refund does when points were spent: `shortfall`; to points that had expired: `restore_expired`; to the tier."""

    shortfall: Literal["allow_negative", "within_balance", "only_pending"] = "allow_negative"
    restore_expired: Literal["extend", "expire_now"] = "extend"
    tier: Literal["at_review", "immediate"] = "at_review"


@record
class Rules:
    """One version of the rules. `pending_days`: how long points are pending.

    `point_value`: what one point is worth in major units of the currency, as a decimal such as `0.01`.
    """

    currency: str
    time_zone: str
    earning: EarnSettings
    expiry: ExpiryPolicy = ExpiryPolicy()
    pending_days: int = 0
    refunds: RefundPolicy = RefundPolicy()
    tiering: TierPolicy = TierPolicy()
    point_value: str | None = None


@record
class Program:
    """The rules in force with their version, and the tiers, lowest rank first. Retired tiers are apart, in any order.

    `changes_fraud_rules`: the account has fraud rules that differ from the defaults.
    """

    version: int
    rules: Rules
    tiers: tuple[Tier, ...]
    retired_tiers: tuple[Tier, ...] = ()
    changes_fraud_rules: bool = False

    def require_currency(self, currency: str) -> None:
        """Raise `InvalidInput` for a currency that the program has no rate for, or that ISO 4217 does not have."""
        minor_units(currency)
        if not any(currency in rule.rates for rule in self.rules.earning.rules):
            raise InvalidInput(
                f"The program has no rate for {currency}; record the amount in {self.rules.currency}, or add a rate.",
                code="currency_not_supported",
                param="currency",
            )

    def tier(self, tier_id: str) -> Tier:
        """A tier by its id, also a retired one. Raises `ProgramMissing`."""
        for tier in (*self.tiers, *self.retired_tiers):
            if tier.id == tier_id:
                return tier
        raise ProgramMissing(f"The program has no tier {tier_id}.")

    def next_tier(self, tier: Tier) -> Tier | None:
        """The lowest tier above this one; None above the highest."""
        for each in self.tiers:
            if each.rank > tier.rank:
                return each
        return None


@record
class ProgramVersion:
    """A version of the program: the rules and tiers that were in force, what made it, when and why."""

    version: int
    rules: Rules
    tiers: tuple[Tier, ...]
    actor: str
    note: str | None
    created_at: UnixMs


def default_program(ids: IdFactory) -> Program:
    """The program of a new account: EUR, UTC, a point for every 1.00, valid 12 months, three tiers."""
    rule = EarnRule(ids.new("rule"), "1 point per 1.00 EUR", {"EUR": Rate(1, minor_units("EUR"))})
    return Program(
        version=1,
        rules=Rules(currency="EUR", time_zone="UTC", earning=EarnSettings(rules=(rule,))),
        tiers=tuple(
            Tier(ids.new("tier"), name, rank, threshold)
            for rank, (name, threshold) in enumerate(_DEFAULT_TIERS, start=1)
        ),
    )
