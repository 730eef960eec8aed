"""Opens the first account on an empty database, with the key and the owner that the environment names."""

from argon2 import PasswordHasher

from loyalpro.settings import Settings
from loyalpro.storage.unit_of_work import Transactions, UnitOfWork


async def first_account(transactions: Transactions, settings: Settings) -> None:
    """Do nothing when there is an account already."""
    if await transactions.read(lambda unit: unit.accounts.any_account()):
        return
    password = settings.bootstrap_password
    password_hash = PasswordHasher().hash(password.get_secret_value()) if password else None

    def work(unit: UnitOfWork) -> None:
        if unit.accounts.any_account():
            return  # another host was quicker
        account_id = unit.ids.new("acct")
        unit.accounts.insert_account(account_id, "Main", unit.now)
        unit.loyalty.insert_program(account_id, unit.ids)
        if settings.bootstrap_api_key is not None:
            api_key = settings.bootstrap_api_key.get_secret_value()
            unit.accounts.insert_api_key(unit.ids.new("key"), account_id, "bootstrap", api_key, unit.now)
        if settings.bootstrap_email and password_hash:
            unit.accounts.insert_owner(
                unit.ids.new("usr"), account_id, settings.bootstrap_email, password_hash, unit.now
            )

    await transactions.change(work)
