"""The key and the owner of the first account: from the environment, on the first start or on a later one."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from loyalpro.app import Application
from loyalpro.settings import Settings
from support.databases import Databases
from support.history import count, query, transaction
from support.server import Server

OWNER: dict[str, Any] = {"bootstrap_email": "owner@example.com", "bootstrap_password": "correct horse"}


@pytest.fixture
def empty(databases: Databases, store: str) -> str:
    return databases.empty(store)


def test_a_key_that_is_set_on_a_later_start_becomes_the_key_of_the_first_account(empty: str) -> None:
    with Server(empty, bootstrap_api_key=None) as server:
        assert server.call("GET", "/v1/customers").status == 401
    with Server(empty) as server:
        assert server.get("/v1/customers")["data"] == []
    assert (count(empty, "accounts"), count(empty, "api_keys")) == (1, 1)


def test_a_second_key_has_no_effect(empty: str) -> None:
    with Server(empty):
        pass
    other = "lp_test_another_key_of_enough_characters"
    with Server(empty, bootstrap_api_key=other) as server:
        assert server.call("GET", "/v1/customers", key=other).status == 401
        assert server.call("GET", "/v1/customers").status == 200


def test_an_owner_that_is_set_on_a_later_start_becomes_the_owner_of_the_first_account(empty: str) -> None:
    for settings in ({}, OWNER, OWNER | {"bootstrap_email": "another@example.com"}):
        with Server(empty, **settings):
            pass
    assert query(empty, "SELECT email, role FROM users") == [("owner@example.com", "owner")]


@pytest.mark.parametrize(("settings", "warnings"), [({}, 0), ({"bootstrap_api_key": None}, 1)])
def test_a_start_with_an_account_without_a_key_logs_a_warning(
    empty: str, settings: dict[str, Any], warnings: int
) -> None:
    with capture_logs() as logs, Server(empty, **settings):
        pass
    found = [line for line in logs if line["event"] == "account_without_key"]
    assert len(found) == warnings
    assert all("LOYALPRO_BOOTSTRAP_API_KEY" in line["advice"] and line["log_level"] == "warning" for line in found)


def test_a_worker_that_starts_first_leaves_the_account_to_the_server(databases: Databases) -> None:
    url = databases.empty("postgres")
    settings = Settings(database_url=SecretStr(url), secret_key=SecretStr("a key for tests of enough characters"))

    async def work() -> None:
        async with Application(settings).working():
            pass

    asyncio.run(work())
    assert count(url, "accounts") == 0
    with Server(url) as server:
        assert server.get("/v1/customers")["data"] == []


def test_two_servers_that_start_at_once_open_one_account(databases: Databases) -> None:
    url = databases.fresh("postgres")
    with ThreadPoolExecutor(2) as hosts:
        with transaction(url) as connection:
            connection.execute("LOCK TABLE accounts IN EXCLUSIVE MODE")  # both can read, and neither can write
            starting = [hosts.submit(Server, url), hosts.submit(Server, url, bootstrap_api_key=None)]
            _wait_until_two_wait(url)
        servers = [each.result(60) for each in starting]
    assert [each.call("GET", "/v1/customers").status for each in servers] == [200, 200]
    assert (count(url, "accounts"), count(url, "api_keys")) == (1, 1)
    for each in servers:
        each.stop()


def _wait_until_two_wait(url: str) -> None:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline_s = time.monotonic() + 30
    while len(query(url, waiting)) < 2:
        assert time.monotonic() < deadline_s, "no transaction waits for the table"
