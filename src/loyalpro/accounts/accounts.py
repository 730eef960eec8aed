"""The first account: opened on an empty database, and completed with the key and the owner that the environment names."""

from dataclasses import field, replace

from loyalpro.accounts.entities import FirstAccount
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.kernel.record import record


@record
class CompleteFirstAccount:
    """The key and the owner to add to the first account, unless it has them. An owner needs both of its fields."""

    api_key: str | None = field(repr=False)
    owner_email: str | None
    owner_password_hash: str | None = field(repr=False)


@record
class CompletedAccount:
    """The first account. `opened`: this call has opened it."""

    account: FirstAccount
    opened: bool


def first_account(unit: AccountsUnit) -> FirstAccount | None:
    """The account that was opened first; None on an empty database."""
    return unit.accounts.first()


def complete_first_account(unit: AccountsUnit, command: CompleteFirstAccount) -> CompletedAccount:
    """Open the first account if there is none, and add what it lacks. Safe to run from several hosts at once."""
    unit.accounts.lock_first()
    found = unit.accounts.first()
    account = found or _open(unit)
    if command.api_key is not None and not account.has_key:
        unit.api_keys.insert(unit.ids.new("key"), account.id, "bootstrap", command.api_key, unit.now)
        account = replace(account, has_key=True)
    if command.owner_email and command.owner_password_hash and not account.has_owner:
        unit.accounts.insert_owner(
            unit.ids.new("usr"), account.id, command.owner_email, command.owner_password_hash, unit.now
        )
        account = replace(account, has_owner=True)
    return CompletedAccount(account, opened=found is None)


def _open(unit: AccountsUnit) -> FirstAccount:
    account_id = unit.ids.new("acct")
    unit.accounts.insert(account_id, "Main", unit.now)
    return FirstAccount(account_id, has_key=False, has_owner=False)
