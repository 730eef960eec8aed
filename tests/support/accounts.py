"""Accounts beside the first one."""

import asyncio

from loyalpro.accounts.accounts import CreateAccount, create_account
from loyalpro.accounts.api_keys import new_key
from loyalpro.accounts.scopes import SCOPES
from loyalpro.loyalty.new_program import start_program
from loyalpro.storage.unit_of_work import UnitOfWork
from support.server import Server


def open_account(server: Server, api_key: str) -> str:
    """A new account whose key has this text and every scope; the id of the key."""

    def work(unit: UnitOfWork) -> str:
        account = create_account(unit, CreateAccount("Another"))
        start_program(unit, account.id)
        return new_key(unit, account.id, name="other", api_key=api_key, scopes=SCOPES).id

    return asyncio.run(server.application.runner.change(work))
