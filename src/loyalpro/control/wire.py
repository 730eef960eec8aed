"""The requests of the operator's commands, and their replies: one JSON object each, on one line.

A reply is `{"result": ...}` or `{"error": {"code", "detail", "param"}}`.
"""

from typing import Any, Final

import msgspec

from loyalpro.kernel.errors import LoyalProError

MAX_BYTES: Final = 64 * 1024
"""The size of a request."""


class CreateAccount(msgspec.Struct, tag="accounts.create", frozen=True, forbid_unknown_fields=True):
    """Create an account."""

    name: str


class ListAccounts(msgspec.Struct, tag="accounts.list", frozen=True, forbid_unknown_fields=True):
    """A page of accounts, oldest first."""

    after_id: str | None
    limit: int


class CreateKey(msgspec.Struct, tag="keys.create", frozen=True, forbid_unknown_fields=True):
    """Create a key. None as the account means the only one there is. `valid_s`: for how long; None for ever."""

    account_id: str | None
    name: str
    scopes: list[str]
    valid_s: int | None
    requests_per_minute: int | None


class ListKeys(msgspec.Struct, tag="keys.list", frozen=True, forbid_unknown_fields=True):
    """A page of keys, newest first. None as the account means all accounts."""

    account_id: str | None
    before_id: str | None
    limit: int


class RevokeKey(msgspec.Struct, tag="keys.revoke", frozen=True, forbid_unknown_fields=True):
    """Revoke a key, named by its id or by its text."""

    key: str


class ResetPassword(msgspec.Struct, tag="people.reset_password", frozen=True, forbid_unknown_fields=True):
    """Give a person a new password. `remove_second_factor`: and remove the second factor."""

    email: str
    remove_second_factor: bool


Request = CreateAccount | ListAccounts | CreateKey | ListKeys | RevokeKey | ResetPassword

_DECODER: Final = msgspec.json.Decoder(Request)


def encode(request: Request) -> bytes:
    """The line of a request."""
    return msgspec.json.encode(request) + b"\n"


def decode(line: bytes) -> Request:
    """The request of a line. Raises `msgspec.DecodeError` for anything else."""
    request: Request = _DECODER.decode(line)
    return request


def encode_result(result: Any) -> bytes:
    """The line of a reply."""
    return msgspec.json.encode({"result": result}) + b"\n"


def encode_error(error: LoyalProError) -> bytes:
    """The line of a reply that refuses the request."""
    content = {"code": error.code, "detail": error.detail, "param": error.param}
    return msgspec.json.encode({"error": content}) + b"\n"


def result_of(line: bytes) -> Any:
    """The result of a reply. Raises its error."""
    reply = msgspec.json.decode(line)
    if "error" in reply:
        error = reply["error"]
        raise LoyalProError(error["detail"], code=error["code"], param=error["param"])
    return reply["result"]
