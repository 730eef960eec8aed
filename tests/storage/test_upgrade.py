"""A database of the release before this one is upgraded, on both stores, and every customer's points add up.

`scripts/upgrade_fixture.py` made its rows through the API of that release.
"""

import base64
import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.loyalty.ledger_check import faults
from loyalpro.storage import migrations
from loyalpro.storage.open import migrate_database, open_reader
from loyalpro.storage.postgres import database as postgres_database
from loyalpro.storage.sqlite import database as sqlite_database
from loyalpro.storage.tables.ledger_check import LedgerReader
from support.databases import Databases
from support.history import connect, query
from support.people import CHEAP, PASSWORD, People
from support.server import Server

FIXTURES = Path(__file__).parent / "upgrade"
LAST_BEFORE = "0013"
FOLDERS = {"sqlite": sqlite_database.MIGRATIONS, "postgres": postgres_database.MIGRATIONS}


@pytest.fixture
def old(databases: Databases, store: str) -> str:
    """The URL of a database of the release before."""
    url = databases.empty(store)
    if store == "sqlite":
        Path(url.removeprefix("sqlite:///")).parent.mkdir()
    connection = connect(url)
    try:
        before = [each for each in migrations.load(FOLDERS[store]) if each.name[:4] <= LAST_BEFORE]
        migrations.migrate(connection, before, SystemClock())
        connection.begin()
        connection.execute(
            "SET LOCAL session_replication_role = replica" if store == "postgres" else "PRAGMA defer_foreign_keys = ON"
        )
        for table, rows in stored(store).items():
            columns = ", ".join(f'"{name}"' for name in rows[0])
            marks = ", ".join("?" * len(rows[0]))
            for row in rows:
                values = [value_of(value) for value in row.values()]
                connection.execute(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', values)
        connection.commit()
    finally:
        connection.close()
    return url


def stored(store: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of each table."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in gzip.decompress((FIXTURES / f"{store}.jsonl.gz").read_bytes()).splitlines():
        row = json.loads(line)
        found[row["table"]].append(row["row"])
    return found


def value_of(value: Any) -> Any:
    return base64.b64decode(value["bytes"]) if isinstance(value, dict) else value


def found(url: str) -> list[str]:
    connection = open_reader(url)
    try:
        logs = [log for page in LedgerReader(connection).pages() for log in page]
        return [f"{log.customer.id}: {text}" for log in logs for text in faults(log, SystemClock().now_ms())]
    finally:
        connection.close()


def test_points_add_up_after_the_upgrade_and_after_what_follows(old: str) -> None:
    counts = {
        table: query(old, f"SELECT COUNT(*) FROM {table}")
        for table in ("customers", "ledger_entries", "lots", "events")
    }
    assert all(number > 0 for ((number,),) in counts.values())
    applied = migrate_database(old, SystemClock())
    assert applied[0] == "0014_program"
    assert found(old) == []
    assert {table: query(old, f"SELECT COUNT(*) FROM {table}") for table in counts} == counts
    due = query(
        old, "SELECT COUNT(*) FROM customers WHERE tier_review_at = 0 AND status = 'active' AND lifetime_earned > 0"
    )
    assert due[0][0] > 0
    with Server(old) as server:
        customers = server.get("/v1/customers")["data"]
        assert {each["external_id"] for each in customers} == {"shop-1", "shop-2", None, "shop-4"}
        for each in customers:
            sale = {"customer_id": each["id"], "amount": 5_600, "currency": "EUR"}
            server.post("/v1/transactions", sale)
        again = server.call("POST", "/v1/transactions", repeated(old))
        assert again.status == 200, "a purchase that was recorded before the upgrade is the same after it"
    assert found(old) == []
    assert query(old, "SELECT COUNT(*) FROM ledger_entries WHERE type = 'expire'")[0][0] > 0


def test_people_of_the_release_before_become_members_and_sign_in(old: str) -> None:
    accounts = [account_id for (account_id,) in query(old, "SELECT id FROM accounts ORDER BY id")]
    rows = (("usr_1", "Owner@Example.com", "owner"), ("usr_2", "member@example.com", "member"))
    for id_, email, role in rows:
        query(
            old,
            "INSERT INTO users (id, account_id, email, password_hash, role, created_at) VALUES (?, ?, ?, ?, ?, 1)",
            *(id_, accounts[0], email, CHEAP.hash(PASSWORD), role),
        )
    migrate_database(old, SystemClock())
    people = People(old)
    for email, role in (("owner@example.com", "owner"), ("MEMBER@example.com", "viewer")):
        found = people.signed_in(people.sign_in(email).token)
        assert (found.membership.account_id, found.membership.role) == (accounts[0], role)
    people.runner.close()


def test_an_owner_that_an_older_program_stores_beside_this_one_is_a_member(old: str) -> None:
    migrate_database(old, SystemClock())
    [(account_id,), *_] = query(old, "SELECT id FROM accounts ORDER BY id")
    query(
        old,
        "INSERT INTO users (id, account_id, email, password_hash, role, created_at) VALUES (?, ?, ?, ?, 'owner', ?)",
        *("usr_1", account_id, "owner@example.com", CHEAP.hash(PASSWORD), 1),
    )
    people = People(old)
    assert people.signed_in(people.sign_in("owner@example.com").token).membership.role == "owner"
    people.runner.close()


def repeated(url: str) -> dict[str, Any]:
    """The first purchase of the first customer, as it was sent."""
    columns = "customer_id, external_id, amount, currency, items"
    [(customer_id, external_id, amount, currency, items)] = query(
        url, f"SELECT {columns} FROM transactions WHERE external_id = 'order-0-2'"
    )
    return {
        "customer_id": customer_id,
        "external_id": external_id,
        "amount": amount,
        "currency": currency,
        "items": json.loads(items),
    }


def test_customers_are_found_by_what_was_stored_before(old: str) -> None:
    migrate_database(old, SystemClock())
    keys = query(old, "SELECT email_key, phone_key FROM customers WHERE status = 'active' ORDER BY id")
    assert keys == [("ada@example.com", "+44791122"), ("bob@example.com", None), (None, "0049301234"), (None, None)]
