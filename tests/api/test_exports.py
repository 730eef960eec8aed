"""Exports over the API, on both stores: files that hold every row once, and that no spreadsheet runs."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from loyalpro.kernel.clock import rfc3339
from support.receivers import Authority
from support.server import Server


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file) as running:
        yield running


def exported(server: Server, **body: object) -> str:
    """The text of the file of an export."""
    job = server.post("/v1/exports", body)
    server.until(f"/v1/exports/{job['id']}", lambda each: each["status"] == "done")
    return server.call("GET", f"/v1/exports/{job['id']}/file").raw.decode()


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def imported(server: Server, **body: object) -> None:
    job = server.post("/v1/imports", body)
    ended = server.until(f"/v1/imports/{job['id']}", lambda each: each["status"] == "done")
    assert (ended["imported"], ended["refused"]) == (ended["rows"], 0)


def test_customers_with_cells_that_no_spreadsheet_runs(server: Server) -> None:
    names = ["=1+1", "+4479", "-2", "@sum", "a=b", 'quote " and, comma', "ü"]
    for n, name in enumerate(names):
        server.post("/v1/customers", {"external_id": f"shop-{n}", "name": name, "metadata": {"n": n}, "phone": "+4479"})
    rows = table(exported(server, kind="customers"))
    assert [row["name"] for row in rows] == ["'=1+1", "'+4479", "'-2", "'@sum", "a=b", 'quote " and, comma', "ü"]
    assert {row["phone"] for row in rows} == {"'+4479"}
    found = lines(exported(server, kind="customers", format="jsonl"))
    assert [each["name"] for each in found] == names
    assert list(found[0]) == list(rows[0])
    assert [json.loads(row["metadata"]) for row in rows] == [each["metadata"] for each in found]


def test_an_exported_file_can_be_imported(server: Server) -> None:
    server.post("/v1/customers", {"external_id": "shop-1", "name": "=1+1", "phone": "+4479", "metadata": {"a": [1]}})
    text = exported(server, kind="customers").replace("shop-1", "shop-2")
    mapping = {name: name for name in ("external_id", "email", "phone", "name", "metadata")}
    imported(server, kind="customers", csv=text, mapping=mapping)
    first, second = server.get("/v1/customers")["data"]
    assert [first[name] for name in ("name", "phone", "metadata")] == [
        second[name] for name in ("name", "phone", "metadata")
    ]


def test_every_row_is_in_the_file_once(server: Server) -> None:
    """More rows than a piece has, and a customer with more entries than a piece."""
    imported(server, kind="customers", rows=[{"external_id": f"c-{n}"} for n in range(1_100)])
    sales = [
        {"customer_external_id": f"c-{n % 2 * n // 3}", "external_id": f"o-{n}", "amount": 100 + n, "currency": "EUR"}
        for n in range(2_400)
    ]
    imported(server, kind="transactions", rows=sales)
    people = table(exported(server, kind="customers"))
    assert [row["external_id"] for row in people] == [f"c-{n}" for n in range(1_100)]
    sold = table(exported(server, kind="transactions"))
    assert [(row["external_id"], row["amount"]) for row in sold] == [(f"o-{n}", str(100 + n)) for n in range(2_400)]
    entries = table(exported(server, kind="ledger"))
    assert len({row["id"] for row in entries}) == len(entries) == 2_400
    assert {row["source_id"] for row in entries} == {row["id"] for row in sold}
    places = [(row["customer_id"], int(row["sequence"])) for row in entries]
    assert places == sorted(places)
    busy = people[0]["id"]
    of_one = lines(exported(server, kind="ledger", format="jsonl", customer_id=busy))
    assert [each["sequence"] for each in of_one] == list(range(1, 1 + sum(row["customer_id"] == busy for row in sold)))
    assert len(of_one) > 1_000


def test_purchases_of_a_time(server: Server) -> None:
    server.post("/v1/customers", {"external_id": "shop-1"})
    sale = {"customer_external_id": "shop-1", "amount": 100, "currency": "EUR"}
    recorded = [server.post("/v1/transactions", sale)["created_at"] for _ in range(3)]
    for kind in ("transactions", "ledger"):
        rows = table(exported(server, kind=kind, since=recorded[1], until=recorded[2]))
        expected = [each for each in recorded if recorded[1] <= each < recorded[2]]
        assert [row["recorded_at"] for row in rows] == expected


def test_an_empty_file_has_a_header(server: Server) -> None:
    for kind in ("customers", "transactions", "ledger", "expiring"):
        assert exported(server, kind=kind).count("\r\n") == 1
        assert exported(server, kind=kind, format="jsonl") == ""


def test_points_that_expire(server: Server) -> None:
    imported(server, kind="customers", rows=[{"external_id": f"c-{n}"} for n in range(450)])
    now = server.application.clock.now_ms()
    day = 86_400_000
    rows = [
        {"customer_external_id": f"c-{n}", "points": 1 + n, "expires_at": rfc3339(now + (1 + n % 60) * day)}
        for n in range(450)
    ]
    imported(server, kind="balances", rows=rows)
    due = [n for n in range(450) if 1 + n % 60 <= 30]
    found = table(exported(server, kind="expiring", days=30))
    assert {row["customer_external_id"]: int(row["points"]) for row in found} == {f"c-{n}": 1 + n for n in due}
    assert len(found) == len(due)
    times = [row["first_expires_at"] for row in found]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"kind": "lots"}, "kind"),
        ({"kind": "customers", "format": "xls"}, "format"),
        ({"kind": "customers", "days": 3}, "days"),
        ({"kind": "expiring", "since": "2026-01-01T00:00:00Z"}, "since"),
        ({"kind": "ledger", "tier_id": "tier_01kat6b8z00000000000000000"}, "tier_id"),
    ],
)
def test_filters_that_do_not_apply_are_refused(server: Server, body: dict[str, Any], param: str) -> None:
    answer = server.call("POST", "/v1/exports", body)
    assert (answer.status, answer.json["code"], answer.json["param"]) == (422, "invalid_field", param)


def test_a_canceled_export_has_no_file(server: Server) -> None:
    job = server.post("/v1/exports", {"kind": "customers"})
    path = f"/v1/exports/{job['id']}"
    server.until(path, lambda each: each["status"] == "done")
    assert server.call("POST", f"{path}/cancel").json["code"] == "job_finished"
    assert server.get("/v1/exports")["data"] == [server.get(path)]
    assert server.call("GET", f"{path}/file").headers["content-disposition"].endswith('.csv"')


def test_the_file_is_there_only_when_it_is_complete(server: Server) -> None:
    job = server.post("/v1/exports", {"kind": "customers"})
    path = f"/v1/exports/{job['id']}"
    server.until(path, lambda each: each["status"] == "done")
    sql = "UPDATE jobs SET status = 'canceled' WHERE id = ?"
    server.run(server.application.runner.change(lambda unit: unit.connection.execute(sql, (job["id"],))))
    answer = server.call("GET", f"{path}/file")
    assert (answer.status, answer.json["code"]) == (409, "export_not_finished")
