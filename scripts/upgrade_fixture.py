"""Writes the rows of a database that a release has made, through its own API, on both stores: what an upgrade is tested with.

    python scripts/upgrade_fixture.py CHECKOUT

CHECKOUT is a folder with the release's source. The rows are written to tests/storage/upgrade, a JSON object a line. There is no
schema: the test applies the migrations of the release, which never change, and then inserts the rows.
"""

import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
TARGET = HERE.parent.parent / "tests" / "storage" / "upgrade"
LEFT_OUT = ("schema_migrations", "workers", "job_runs", "sqlite_sequence", "sqlite_stat1")
"""Tables that a process fills anew, and the record of the migrations."""
TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
    "postgres": (
        "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
        " AND NOT c.relispartition ORDER BY 1"
    ),
}
COLUMNS = {
    "sqlite": "SELECT name FROM pragma_table_info(?) ORDER BY cid",
    "postgres": (
        "SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'public' AND table_name = ?"
        " ORDER BY ordinal_position"
    ),
}


def main(arguments: list[str]) -> None:
    """Run this script again with the source of the release."""
    checkout = Path(arguments[0]).resolve()
    paths = [str(checkout / part) for part in ("src", "tests", ".")]
    environment = os.environ | {"PYTHONPATH": ":".join(paths), "LOYALPRO_FIXTURE": "1"}
    subprocess.run([sys.executable, str(HERE)], env=environment, check=True)


def write_fixtures() -> None:
    """Make a database on each store and write its rows."""
    import tempfile

    from support.databases import Databases
    from support.history import query
    from support.server import Server

    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="loyalpro-upgrade-") as folder:
        databases = Databases(Path(folder))
        for store in ("sqlite", "postgres"):
            url = databases.fresh(store)
            with Server(url) as server:
                use(server)
            lines = [json.dumps(row) for row in rows(store, lambda sql, *params, url=url: query(url, sql, *params))]
            with gzip.GzipFile(TARGET / f"{store}.jsonl.gz", "wb", mtime=0) as file:
                file.write("".join(f"{line}\n" for line in lines).encode())
            sys.stdout.write(f"{store}: {len(lines)} rows\n")
        databases.stop()


def use(server: Any) -> None:
    """What a merchant does: customers with and without details, purchases of all ages, a deletion, a webhook endpoint."""
    server.post("/v1/webhook_endpoints", {"url": "https://127.0.0.1:1/hook", "events": ["*"], "status": "paused"})
    people = [
        server.post("/v1/customers", body)["id"]
        for body in (
            {"external_id": "shop-1", "email": "Ada@Example.com", "phone": "+44 (79) 11-22", "name": "Ada"},
            {"external_id": "shop-2", "email": "Bob@Example.com", "metadata": {"a": [1, {"b": None}]}},
            {"phone": "0049 30/1234"},
            {"external_id": "shop-4"},
            {"external_id": "shop-5", "name": "Gone", "email": "gone@example.com"},
        )
    ]
    for number, customer in enumerate(people):
        for days, amount in enumerate((0, 99, 5_600, 12_345, 10**6 + number)):
            sale = {
                "customer_id": customer,
                "external_id": f"order-{number}-{days}",
                "amount": amount,
                "currency": "EUR",
                "occurred_at": f"202{3 + days % 4}-0{1 + days}-1{number}T23:59:59.999Z",
                "items": [{"sku": "A", "quantity": 1.5, "amount": amount}],
                "channel": "pos",
            }
            if number != 3:
                server.post("/v1/transactions", sale)
    answer = server.call("DELETE", f"/v1/customers/{people[4]}")
    assert answer.status == 200, answer.raw
    server.until(f"/v1/events?customer_id={people[4]}", lambda page: len(page["data"]) < 4)  # the others are erased


def rows(store: str, read: Any) -> Iterator[dict[str, Any]]:
    """Every row of every table, with the name of its table."""
    for (table,) in read(TABLES[store]):
        if table not in LEFT_OUT and not table.startswith("sqlite_"):
            columns = [name for (name,) in read(COLUMNS[store], table)]
            listed = ", ".join(f'"{name}"' for name in columns)
            for row in read(f'SELECT {listed} FROM "{table}"'):
                yield {"table": table, "row": dict(zip(columns, map(plain, row), strict=True))}


def plain(value: Any) -> Any:
    """A value as JSON."""
    if isinstance(value, bytes | memoryview):
        return {"bytes": base64.b64encode(bytes(value)).decode()}
    return value if value is None or isinstance(value, int | float | str) else str(value)


if __name__ == "__main__":
    if "LOYALPRO_FIXTURE" in os.environ:
        write_fixtures()
    else:
        main(sys.argv[1:])
