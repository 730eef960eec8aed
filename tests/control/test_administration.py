"""What the operator's commands do, on both databases."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from loyalpro.accounts.passwords import Passwords
from loyalpro.accounts.people import new_person
from loyalpro.accounts.scopes import SCOPES
from loyalpro.control import wire
from loyalpro.control.administration import Administration
from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import LoyalProError
from loyalpro.storage.open import open_database
from support.history import query, transaction
from support.units import runner_on, unit_on

Do = Callable[[wire.Request], Any]


@contextmanager
def administered(url: str) -> Iterator[Callable[[bytes], bytes]]:
    """Answers lines on a database."""
    with asyncio.Runner() as runner:
        database = open_database(url, SystemClock())
        runner.run(database.start())
        administration = Administration(runner_on(database), Passwords())
        try:
            yield lambda line: runner.run(administration.answer(line))
        finally:
            runner.run(database.stop())


@pytest.fixture
def do(database_url: str) -> Iterator[Do]:
    with administered(database_url) as answer:
        yield lambda request: wire.result_of(answer(wire.encode(request).rstrip()))


def new_key(account: str | None = None, **fields: Any) -> wire.CreateKey:
    default: dict[str, Any] = {"name": "till", "scopes": ["read"], "valid_s": None, "requests_per_minute": None}
    return wire.CreateKey(account, **default | fields)


def refused(do: Do, request: wire.Request) -> tuple[str, str]:
    with pytest.raises(LoyalProError) as refusal:
        do(request)
    return refusal.value.code, refusal.value.detail


def test_an_account_is_created_with_its_program(do: Do, database_url: str) -> None:
    made = do(wire.CreateAccount(" Bakery "))
    assert (made["name"], made["keys"]) == ("Bakery", 0)
    assert query(database_url, "SELECT account_id, version FROM programs") == [(made["id"], 1)]
    do(new_key(made["id"]))
    other = do(wire.CreateAccount("Butcher"))
    assert do(wire.ListAccounts(None, 10)) == [made | {"keys": 1}, other]
    assert do(wire.ListAccounts(made["id"], 10)) == [other]
    assert do(wire.ListAccounts(None, 1)) == [made | {"keys": 1}]
    assert set(query(database_url, "SELECT actor FROM audit_log")) == {("cli",)}


def test_a_key_belongs_to_the_only_account_or_to_the_named_one(do: Do) -> None:
    assert refused(do, new_key())[0] == "not_found"
    one = do(wire.CreateAccount("one"))["id"]
    assert do(new_key())["account_id"] == one
    two = do(wire.CreateAccount("two"))["id"]
    code, detail = refused(do, new_key())
    assert (code, "--account" in detail) == ("missing_field", True)
    assert do(new_key(two))["account_id"] == two
    assert refused(do, new_key("acct_nobody"))[0] == "not_found"
    assert [each["account_id"] for each in do(wire.ListKeys(None, None, 10))] == [two, one]
    assert [each["account_id"] for each in do(wire.ListKeys(one, None, 10))] == [one]


def test_a_key_has_the_scopes_the_limit_and_the_end_that_the_operator_gives(do: Do) -> None:
    do(wire.CreateAccount("one"))
    made = do(new_key(scopes=list(SCOPES), valid_s=86_400, requests_per_minute=60))
    assert made["scopes"] == list(SCOPES)
    assert (made["requests_per_minute"], made["created_by"], made["status"]) == (60, "cli", "active")
    assert made["key"].startswith("lp_")
    assert made["expires_at"] > made["created_at"]
    [listed] = do(wire.ListKeys(None, None, 10))
    assert listed == {name: value for name, value in made.items() if name != "key"}
    for fields in ({"name": ""}, {"name": "a\x1b[2J"}, {"requests_per_minute": 0}, {"valid_s": 0}):
        assert refused(do, new_key(**fields))[0] == "invalid_field"
    assert refused(do, new_key(scopes=["reed"]))[0] == "unknown_scope"
    assert refused(do, new_key(scopes=[]))[0] == "missing_field"


def test_the_operator_revokes_every_key_by_its_id_or_its_text(do: Do) -> None:
    do(wire.CreateAccount("one"))
    by_id, by_text = do(new_key(scopes=list(SCOPES))), do(new_key())
    assert do(wire.RevokeKey(by_text["key"]))["status"] == "revoked"
    assert do(wire.RevokeKey(by_id["id"]))["status"] == "revoked"
    assert do(wire.RevokeKey(by_id["id"]))["status"] == "revoked"
    assert refused(do, wire.RevokeKey("lp_unknown"))[0] == "not_found"
    assert refused(do, wire.RevokeKey("key_unknown"))[0] == "not_found"
    assert do(wire.ListAccounts(None, 1))[0]["keys"] == 0


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"{}",
        b"[]",
        b'{"type":"keys.list"}',
        b'{"type":"accounts.create","name":1}',
        b'{"type":"x"}',
        b"\xff",
    ],
)
def test_a_line_that_is_no_request_gets_an_error(database_url: str, line: bytes) -> None:
    with administered(database_url) as answer:
        assert b'"code":"malformed_request"' in answer(line)


def test_a_failure_inside_gets_a_reply_without_its_text(database_url: str) -> None:
    class Failing:
        async def read(self, work: Any) -> Any:
            raise ZeroDivisionError("secret")

    failing: Any = Failing()
    reply = asyncio.run(Administration(failing, Passwords()).answer(wire.encode(wire.ListAccounts(None, 1))))
    assert b"internal_error" in reply
    assert b"secret" not in reply


def test_the_operator_resets_a_password_by_e_mail_address(do: Do, database_url: str) -> None:
    account_id = do(wire.CreateAccount("Bakery"))["id"]
    with transaction(database_url) as connection:
        person = new_person(
            unit_on(connection), account_id, "owner", email="ada@example.com", name="", password_hash="x"
        )
    made = do(wire.ResetPassword("ADA@example.com", remove_second_factor=False))
    assert (made["id"], made["email"]) == (person.id, "ada@example.com")
    [(stored,)] = query(database_url, "SELECT password_hash FROM users")
    assert asyncio.run(Passwords().verify(stored, made["password"])).matches
    assert query(database_url, "SELECT actor FROM audit_log WHERE action = 'person.password_changed'") == [("cli",)]
    assert refused(do, wire.ResetPassword("bob@example.com", remove_second_factor=False))[0] == "not_found"
