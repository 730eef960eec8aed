"""Opens the first account on an empty database, and gives it the key and the owner that the environment names."""

from dataclasses import replace

import structlog
from argon2 import PasswordHasher

from loyalpro.loyalty.program import default_program
from loyalpro.settings import Settings
from loyalpro.storage.tables.accounts import FirstAccount
from loyalpro.storage.unit_of_work import Transactions, UnitOfWork

_ADVICE = "No call can be let in. Set LOYALPRO_BOOTSTRAP_API_KEY, and start again: it becomes the first account's key."


async def first_account(transactions: Transactions, settings: Settings) -> None:
    """See to it that there is an account, with a key and an owner as soon as they are named; it keeps those that it has."""
    account = await transactions.read(lambda unit: unit.accounts.first())
    if account is None or _may_give(account, settings):
        password = settings.bootstrap_password
        password_hash = PasswordHasher().hash(password.get_secret_value()) if password else None
        account = await transactions.change(lambda unit: _complete(unit, settings, password_hash))
    if not account.has_key:
        structlog.get_logger("server").warning("account_without_key", advice=_ADVICE)


def _may_give(account: FirstAccount, settings: Settings) -> bool:
    key = settings.bootstrap_api_key is not None
    owner = bool(settings.bootstrap_email and settings.bootstrap_password)
    return (key and not account.has_key) or (owner and not account.has_owner)


def _complete(unit: UnitOfWork, settings: Settings, password_hash: str | None) -> FirstAccount:
    """What the account lacks, as it is now: another host may have been quicker."""
    unit.accounts.hold_first()
    account = unit.accounts.first() or _open(unit)
    if settings.bootstrap_api_key is not None and not account.has_key:
        api_key = settings.bootstrap_api_key.get_secret_value()
        unit.accounts.insert_api_key(unit.ids.new("key"), account.id, "bootstrap", api_key, unit.now)
        account = replace(account, has_key=True)
    if settings.bootstrap_email and password_hash and not account.has_owner:
        unit.accounts.insert_owner(unit.ids.new("usr"), account.id, settings.bootstrap_email, password_hash, unit.now)
        account = replace(account, has_owner=True)
    return account


def _open(unit: UnitOfWork) -> FirstAccount:
    account_id = unit.ids.new("acct")
    unit.accounts.insert_account(account_id, "Main", unit.now)
    unit.programs.insert(account_id, default_program(unit.ids))
    return FirstAccount(account_id, has_key=False, has_owner=False)
