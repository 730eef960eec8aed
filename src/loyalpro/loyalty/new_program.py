"""Gives a new account its program."""

from dataclasses import replace

from loyalpro.loyalty.earning import Rate
from loyalpro.loyalty.money import minor_units
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.program import ProgramVersion, default_program
from loyalpro.loyalty.program_changes import ChangeProgram, ProgramDraft, TierDraft, change_program


def start_program(unit: LoyaltyUnit, account_id: str) -> None:
    """Store the default program of an account, in the transaction that creates the account."""
    unit.programs.insert(account_id, default_program(unit.ids), actor=unit.actor, now=unit.now)


def localize_program(unit: LoyaltyUnit, account_id: str, currency: str, time_zone: str | None) -> None:
    """Put the default program into a currency and a time zone; one that was changed before stays as it is.

    Raises `InvalidInput` for an unknown one, and `Conflict` `program_in_use` after the first purchase.
    """
    minor = minor_units(currency)
    if unit.programs.get(account_id).version != 1:
        return

    def revise(current: ProgramVersion) -> ProgramDraft:
        earning = current.rules.earning
        first = replace(earning.rules[0], name=f"1 point per 1.00 {currency}", rates={currency: Rate(1, minor)})
        rules = replace(
            current.rules,
            currency=currency,
            time_zone=time_zone or current.rules.time_zone,
            earning=replace(earning, rules=(first,)),
        )
        tiers = tuple(
            TierDraft(each.id, each.name, each.threshold, each.multiplier_permille, each.benefits)
            for each in current.tiers
        )
        return ProgramDraft(rules, tiers, note=None)

    change_program(unit, ChangeProgram(account_id, revise))
