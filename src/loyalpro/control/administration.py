"""Answers the requests of the operator's commands, with the use cases that the API calls."""

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
import structlog

from loyalpro.accounts import accounts, api_keys
from loyalpro.accounts.entities import Account, ApiKey
from loyalpro.accounts.password_changes import ResetPassword, reset_password
from loyalpro.accounts.passwords import Passwords
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.control import wire
from loyalpro.kernel.clock import MS_PER_S, rfc3339
from loyalpro.kernel.errors import InvalidInput, LoyalProError, MalformedRequest, NotFound
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.loyalty.new_program import start_program
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.web.api.api_keys import key_view

ACTOR: Final = "cli"
_MAX_PAGE: Final = 1_000


class ControlUnit(AccountsUnit, LoyaltyUnit, Protocol):
    """One database transaction with accounts and programs."""


class Administration:
    """Answers requests, each in one transaction."""

    def __init__(self, runner: UnitOfWorkRunner[ControlUnit], passwords: Passwords) -> None:
        self._runner = runner
        self._passwords = passwords

    async def answer(self, line: bytes) -> bytes:
        """The reply to a request, also to one that is refused or fails."""
        try:
            return wire.encode_result(await self._result(wire.decode(line)))
        except msgspec.DecodeError as error:
            return wire.encode_error(MalformedRequest(f"This server does not know the request: {error}."))
        except LoyalProError as error:
            return wire.encode_error(error)
        except Exception as error:  # noqa: BLE001 - logged; the command gets a reply, and the socket goes on
            structlog.get_logger("server").error("request_crashed", path="control", exc_info=error)
            return wire.encode_error(LoyalProError("An internal error; the server's log has its trace."))

    async def _result(self, request: wire.Request) -> Any:
        match request:
            case wire.ListAccounts():
                return await self._runner.read(lambda unit: _list_accounts(unit, request))
            case wire.ListKeys():
                return await self._runner.read(lambda unit: _list_keys(unit, request))
            case wire.CreateAccount():
                return await self._change(lambda unit: _create_account(unit, request))
            case wire.CreateKey():
                return await self._change(lambda unit: _create_key(unit, request))
            case wire.RevokeKey():
                return await self._runner.change(lambda unit: _revoke_key(unit, request), "control", actor=ACTOR)

            case wire.ResetPassword():
                return await self._reset_password(request)

    async def _reset_password(self, request: wire.ResetPassword) -> dict[str, Any]:
        command = ResetPassword(request.email, request.remove_second_factor)
        made = await reset_password(self._runner, self._passwords, command, actor=ACTOR)
        return {"id": made.person.id, "email": made.person.email, "password": made.password}

    async def _change(self, work: Callable[[ControlUnit], dict[str, Any]]) -> dict[str, Any]:
        return await self._runner.change(work, actor=ACTOR)


def _create_account(unit: ControlUnit, request: wire.CreateAccount) -> dict[str, Any]:
    account = accounts.create_account(unit, accounts.CreateAccount(request.name))
    start_program(unit, account.id)
    return _account(account)


def _list_accounts(unit: ControlUnit, request: wire.ListAccounts) -> list[dict[str, Any]]:
    query = accounts.ListAccounts(request.after_id, min(request.limit, _MAX_PAGE))
    return [_account(each) for each in accounts.list_accounts(unit, query)]


def _create_key(unit: ControlUnit, request: wire.CreateKey) -> dict[str, Any]:
    command = api_keys.CreateKey(
        account_id=request.account_id or _only_account(unit).id,
        name=request.name,
        scopes=request.scopes,
        expires_at=None if request.valid_s is None else unit.now + request.valid_s * MS_PER_S,
        requests_per_minute=request.requests_per_minute,
    )
    created = api_keys.create_key(unit, command)
    return _key(unit, created.key) | {"key": created.api_key}


def _list_keys(unit: ControlUnit, request: wire.ListKeys) -> list[dict[str, Any]]:
    query = api_keys.ListKeys(request.account_id, request.before_id, min(request.limit, _MAX_PAGE))
    return [_key(unit, each) for each in api_keys.list_keys(unit, query)]


def _revoke_key(unit: ControlUnit, request: wire.RevokeKey) -> dict[str, Any]:
    """The operator may revoke every key, also the only one with `admin`: the operator can always create another."""
    key_id = request.key
    if key_id.startswith(api_keys.PREFIX):
        key = unit.api_keys.find(key_id)
        if key is None:
            raise NotFound("No account has this API key.", param="key")
        key_id = key.id
    return _key(unit, api_keys.revoke_key(unit, api_keys.RevokeKey(None, key_id, keep_admin=False)))


def _only_account(unit: ControlUnit) -> Account:
    """The account that is meant when a command names none."""
    match accounts.list_accounts(unit, accounts.ListAccounts(None, 2)):
        case [account]:
            return account
        case []:
            raise NotFound("There is no account yet. Create one with: loyalpro accounts create NAME")
        case _:
            raise InvalidInput(
                "There are several accounts. Name one with --account; `loyalpro accounts list` shows them.",
                code="missing_field",
                param="account",
            )


def _account(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "name": account.name,
        "keys": account.keys,
        "created_at": rfc3339(account.created_at),
    }


def _key(unit: ControlUnit, key: ApiKey) -> dict[str, Any]:
    return {"id": key.id, "account_id": key.account_id, **key_view(key, unit.now)}
