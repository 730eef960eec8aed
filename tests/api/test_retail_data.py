"""Public purchases are imported over the API on both stores: every customer's points are recomputed apart, and are equal.

CDNOW, a real shop, sold music; the orders of Superstore are sample data. Its purchases of 1997 and 1998 are moved by 28 years, after which the calendar repeats itself, so that some of the
points have expired and others have not. Superstore sold furniture, office supplies and technology.
"""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from loyalpro.kernel.clock import SystemClock, unix_ms
from loyalpro.loyalty.ledger_check import faults
from loyalpro.storage.open import open_reader
from loyalpro.storage.tables.ledger_check import LedgerReader
from scripts import oracle
from support import superstore
from support.receivers import Authority
from support.server import Server

YEARS = 28


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file) as running:
        yield running


def imported(server: Server, **body: object) -> None:
    job = server.post("/v1/imports", body)
    ended = server.until(f"/v1/imports/{job['id']}", lambda each: each["status"] != "running" and each["finished_at"])
    assert (ended["status"], ended["imported"], ended["refused"]) == ("done", ended["rows"], 0)


def cdnow() -> list[tuple[str, date, str]]:
    """The customer, the day and the amount in dollars of each purchase."""
    lines = (oracle.datasets() / "CDNOW_sample.txt").read_text("ascii").splitlines()
    rows = [line.split() for line in lines]
    return [(row[1], date.fromisoformat(f"{row[2][:4]}-{row[2][4:6]}-{row[2][6:]}"), row[4]) for row in rows]


def later(day: date) -> date:
    return day.replace(year=day.year + YEARS)


def test_every_customer_of_cdnow_has_the_points_of_its_purchases(server: Server, database_url: str) -> None:
    sales = cdnow()
    assert len(sales) == 6_919
    people = sorted({customer for customer, _, _ in sales})
    imported(server, kind="customers", csv="".join(["external_id\n", *(f"{name}\n" for name in people)]))
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["receipt", "member", "day", "dollars"])
    table.writerows([n, customer, later(day), dollars] for n, (customer, day, dollars) in enumerate(sales))
    mapping = {"external_id": "receipt", "customer_external_id": "member", "occurred_at": "day", "amount": "dollars"}
    imported(server, kind="transactions", csv=out.getvalue(), mapping=mapping, amounts="major")

    today = datetime.fromtimestamp(SystemClock().now_ms() / 1_000, UTC).date()
    earned: dict[str, int] = defaultdict(int)
    valid: dict[str, int] = defaultdict(int)
    for customer, day, dollars in sales:
        points = int(Decimal(dollars))  # a point for every whole dollar
        last_day = later(day).replace(year=later(day).year + 1)
        earned[customer] += points
        valid[customer] += points if last_day >= today else 0
    assert 0 < sum(valid.values()) < sum(earned.values())
    found = {
        name: (lifetime, available, first, last)
        for name, lifetime, available, first, last in rows(
            server,
            "SELECT external_id, lifetime_earned, available, first_purchase_at, last_purchase_at FROM customers",
        )
    }
    days: dict[str, list[date]] = defaultdict(list)
    for customer, day, _ in sales:
        days[customer].append(later(day))
    assert found == {
        name: (earned[name], valid[name], midnight(min(days[name])), midnight(max(days[name]))) for name in people
    }
    report = server.get("/v1/reports/liability")
    assert (report["issued"], report["available"]) == (sum(earned.values()), sum(valid.values()))
    assert what_the_doctor_finds(database_url) == []


PROGRAM = {
    "earning": {
        "rules": [
            {
                "name": "Technology",
                "rates": {"EUR": {"points": 3, "per_amount": 250}},
                "match": {"categories": ["Technology"]},
            },
            {"name": "Everything", "rates": {"EUR": {"points": 1, "per_amount": 100}}},
        ],
        "exclude": {"categories": ["Furniture"]},
        "rounding": "half_up",
    },
    "expiry": {"kind": "never"},
}
RATES = {"Technology": Fraction(3, 250), "Office Supplies": Fraction(1, 100), "Furniture": Fraction(0)}


def test_every_order_of_superstore_earns_by_its_lines(server: Server, database_url: str, tmp_path: Path) -> None:
    """Three categories with three rates, one of them nothing, and half points rounded up once for each order."""
    answer = server.call("PATCH", "/v1/program", PROGRAM)
    assert answer.status == 200, answer.json
    found = superstore.orders(tmp_path)
    assert (len(found), sum(len(each.items) for each in found)) == (5_009, 9_994)
    of_customers = superstore.by_customer(found)
    imported(server, kind="customers", rows=[{"external_id": name} for name in of_customers])
    for start in range(0, len(found), 1_000):
        sent = [
            {
                "external_id": each.id,
                "customer_external_id": each.customer,
                "occurred_at": f"{each.day}T12:00:00Z",
                "amount": each.amount,
                "currency": "EUR",
                "items": each.items,
            }
            for each in found[start : start + 1_000]
        ]
        imported(server, kind="transactions", rows=sent)
    expected = {
        each.id: half_up(sum(RATES[line["category"]] * line["amount"] for line in each.items)) for each in found
    }
    assert dict(rows(server, "SELECT external_id, points_earned FROM transactions")) == expected
    assert len(set(expected.values())) > 500
    totals = {name: sum(expected[each.id] for each in orders) for name, orders in of_customers.items()}
    assert dict(rows(server, "SELECT external_id, available FROM customers")) == totals
    assert what_the_doctor_finds(database_url) == []


def half_up(points: Fraction) -> int:
    return math.floor(points + Fraction(1, 2))


def midnight(day: date) -> int:
    return unix_ms(datetime.combine(day, time.min, UTC))


def rows(server: Server, sql: str) -> list[tuple[Any, ...]]:
    return server.run(server.application.runner.read(lambda unit: unit.connection.execute(sql)))


def what_the_doctor_finds(url: str) -> list[str]:
    connection = open_reader(url)
    try:
        now = SystemClock().now_ms()
        return [text for page in LedgerReader(connection).pages() for log in page for text in faults(log, now)]
    finally:
        connection.close()
