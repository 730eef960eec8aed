"""Opens the first account on an empty database, with the key and the owner that the environment names."""

import sys

import structlog

from loyalpro.accounts.accounts import CompleteFirstAccount, complete_first_account, first_account
from loyalpro.accounts.entities import FirstAccount
from loyalpro.accounts.first_run import is_first_run, offer_setup_code
from loyalpro.accounts.passwords import Passwords
from loyalpro.loyalty.new_program import start_program
from loyalpro.settings import Settings
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, UnitOfWork

_ACTOR = "system:bootstrap"
_ADVICE = (
    "Every API request is refused. Create a key with: loyalpro keys create NAME. Or set "
    "LOYALPRO_BOOTSTRAP_API_KEY to the key of the first account, and start again."
)


async def prepare_first_account(runner: DatabaseUnitOfWorkRunner, settings: Settings, passwords: Passwords) -> None:
    """Make sure that there is an account, with a key and an owner if the settings name them. Existing ones are kept."""
    account = await runner.read(first_account)
    if account is None or _lacks(account, settings):
        command = await _command(settings, passwords)
        account = await runner.change(lambda unit: _complete(unit, command), actor=_ACTOR)
    if not account.has_key:
        structlog.get_logger("server").warning("account_without_key", advice=_ADVICE)


async def show_setup_code(runner: DatabaseUnitOfWorkRunner, base_url: str) -> None:
    """Print how to make the first owner, while there is none. It is not logged, because logs are read by others, too."""
    if await runner.read(is_first_run):
        code = await runner.change(offer_setup_code, "control", actor=_ACTOR)
        if code is not None:
            sys.stdout.write(
                f"Make the first owner at {base_url}/first-run with the setup code {code}, valid for 15 minutes.\n"
            )
            sys.stdout.flush()


def _lacks(account: FirstAccount, settings: Settings) -> bool:
    key = settings.bootstrap_api_key is not None
    owner = bool(settings.bootstrap_email and settings.bootstrap_password)
    return (key and not account.has_key) or (owner and not account.has_owner)


async def _command(settings: Settings, passwords: Passwords) -> CompleteFirstAccount:
    api_key, password = settings.bootstrap_api_key, settings.bootstrap_password
    return CompleteFirstAccount(
        api_key=None if api_key is None else api_key.get_secret_value(),
        owner_email=settings.bootstrap_email,
        owner_password_hash=await passwords.hash(password.get_secret_value()) if password else None,
    )


def _complete(unit: UnitOfWork, command: CompleteFirstAccount) -> FirstAccount:
    """The account and its program are opened in one transaction."""
    completed = complete_first_account(unit, command)
    if completed.opened:
        start_program(unit, completed.account.id)
    return completed.account
