"""PgBouncer in front of PostgreSQL: session mode works, and what cannot work is refused by name."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import ConfigurationError, StoreUnavailable
from loyalpro.storage.open import migrate_database, open_database
from loyalpro.storage.postgres.connection import PostgresConnection
from loyalpro.storage.postgres.session import WORK, settings
from support.databases import Databases
from support.pgbouncer import PgBouncer
from support.receivers import Authority, RawServer, good
from support.server import Server
from support.writes import insert, names

T = TypeVar("T")
SHARED = [
    ("transaction", {}),
    ("transaction", {"server_round_robin": "1"}),
    ("transaction", {"default_pool_size": "1"}),
    ("transaction", {"ignore_startup_parameters": "options"}),
    ("statement", {}),
]


@pytest.mark.parametrize("options", [{}, {"ignore_startup_parameters": "options"}])
def test_the_settings_of_a_session_are_in_force_through_a_pooler(databases: Databases, options: dict[str, str]) -> None:
    with PgBouncer(databases.fresh("postgres"), "session", **options) as pooler:
        for read_only in (False, True):
            connection = PostgresConnection(pooler.url, read_only=read_only)
            wanted = settings(WORK, read_only=read_only, server_version=130_000)
            assert {name: connection.execute(f"SHOW {name}")[0][0] for name in wanted} == wanted
            connection.check()
            connection.close()


def test_a_purchase_becomes_webhooks_through_a_pooler_in_session_mode(
    databases: Databases, authority: Authority
) -> None:
    with (
        PgBouncer(databases.empty("postgres"), "session") as pooler,
        Server(pooler.url, authority.ca_file) as server,
        RawServer(good, authority.context()) as receiver,
    ):
        server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
        customer = server.post("/v1/customers", {"name": "Zoë 日本 €"})
        for n in range(20):
            bought = {"customer_id": customer["id"], "external_id": f"till-{n}", "amount": 500, "currency": "EUR"}
            server.post("/v1/transactions", bought)
        receiver.wait_for(41)
        assert server.get(f"/v1/customers/{customer['id']}")["name"] == "Zoë 日本 €"
        assert len(server.get(f"/v1/customers/{customer['id']}/ledger")["data"]) == 20
        assert server.call("GET", "/readyz").status == 200


@pytest.mark.parametrize(("mode", "options"), SHARED)
def test_a_pooler_that_shares_sessions_is_refused(databases: Databases, mode: str, options: dict[str, str]) -> None:
    with PgBouncer(databases.fresh("postgres"), mode, **options) as pooler:
        with pytest.raises(ConfigurationError, match="pool_mode=session"):
            asyncio.run(open_database(pooler.url, SystemClock()).start())
        with pytest.raises(ConfigurationError, match="pool_mode=session"):
            migrate_database(pooler.url, SystemClock())


def test_a_session_that_loses_its_backend_while_it_runs_is_refused(databases: Databases) -> None:
    """The mode of a pooler can be changed while processes are connected."""
    with PgBouncer(databases.fresh("postgres"), "transaction") as pooler:
        connection = PostgresConnection(pooler.url, read_only=False)
        with psycopg.connect(pooler.url) as other:
            other.execute("SELECT 1")  # in a transaction that stays open, on the backend that was free
            with pytest.raises(ConfigurationError, match="pool_mode=session"):
                connection.check()
        connection.close()


def test_a_pool_without_room_is_an_error_that_says_how_much_is_needed(databases: Databases) -> None:
    pooler = PgBouncer(databases.fresh("postgres"), "session", default_pool_size="1")
    with pooler, psycopg.connect(pooler.url) as other:
        other.execute("SELECT 1")
        with pytest.raises(StoreUnavailable, match="9 sessions"):
            asyncio.run(open_database(pooler.url, SystemClock()).start())


def test_sessions_survive_the_restart_of_a_pooler(databases: Databases) -> None:
    async def main() -> None:
        url = databases.fresh("postgres")
        with PgBouncer(url, "session") as pooler:
            database = open_database(pooler.url, SystemClock())
            await database.start()
            await database.write(insert("before"))
            await asyncio.to_thread(pooler.restart)
            await eventually(lambda: database.write(insert("after")))
            assert await eventually(lambda: database.read(names)) == {"before", "after"}
            await database.stop()

    asyncio.run(asyncio.wait_for(main(), 60))


async def eventually(call: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await call()
        except StoreUnavailable:
            continue
