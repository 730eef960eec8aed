"""Gives a new account its program."""

from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.program import default_program


def start_program(unit: LoyaltyUnit, account_id: str) -> None:
    """Store the default program of an account, in the transaction that creates the account."""
    unit.programs.insert(account_id, default_program(unit.ids), actor=unit.actor, now=unit.now)
