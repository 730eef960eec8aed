"""Accounts: create and list them; the first one is completed with the key and the owner that the environment names."""

from dataclasses import field, replace

from loyalpro.accounts.api_keys import new_key
from loyalpro.accounts.entities import Account, FirstAccount
from loyalpro.accounts.names import checked_name
from loyalpro.accounts.people import new_person
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.accounts.scopes import SCOPES
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


@record
class CreateAccount:
    """An account to create."""

    name: str


@record
class ListAccounts:
    """A page of accounts, oldest first: those after `after_id`."""

    after_id: str | None
    limit: int


def first_account(unit: AccountsUnit) -> FirstAccount | None:
    """The account that was opened first; None on an empty database."""
    return unit.accounts.first()


def complete_first_account(unit: AccountsUnit, command: CompleteFirstAccount) -> CompletedAccount:
    """Open the first account if there is none, and add what it lacks. Safe to run from several hosts at once."""
    unit.accounts.lock_first()
    found = unit.accounts.first()
    account = found or _open(unit)
    if command.api_key is not None and not account.has_key:
        new_key(unit, account.id, name="bootstrap", api_key=command.api_key, scopes=SCOPES)
        account = replace(account, has_key=True)
    if command.owner_email and command.owner_password_hash and not account.has_owner:
        _add_owner(unit, account.id, command.owner_email.strip().lower(), command.owner_password_hash)
        account = replace(account, has_owner=True)
    return CompletedAccount(account, opened=found is None)


def create_account(unit: AccountsUnit, command: CreateAccount) -> Account:
    """Store an account without a key. It needs a program in the same transaction: `loyalty.program.start_program`."""
    account = Account(unit.ids.new("acct"), checked_name(command.name), unit.now, keys=0)
    unit.accounts.insert(account.id, account.name, account.created_at)
    unit.audit(account.id, "account.created", account.id)
    return account


def list_accounts(unit: AccountsUnit, query: ListAccounts) -> list[Account]:
    """Accounts, oldest first."""
    return unit.accounts.list_after(query.after_id, query.limit)


def _add_owner(unit: AccountsUnit, account_id: str, email: str, password_hash: str) -> None:
    """Make a person the owner, also one who is a member of another account already."""
    known = unit.people.credentials(email)
    if known is None:
        new_person(unit, account_id, "owner", email=email, name="", password_hash=password_hash)
        return
    unit.people.add_member(account_id, known.person.id, "owner", unit.now)
    unit.people.set_role(account_id, known.person.id, "owner")


def _open(unit: AccountsUnit) -> FirstAccount:
    account = create_account(unit, CreateAccount("Main"))
    return FirstAccount(account.id, has_key=False, has_owner=False)
