"""The pure parts of the measurement of a large program: its files, and what is computed from what was observed."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from bench.clock_ahead import ClockAhead
from bench.large_program import tenths
from bench.live_traffic import Call, Waits
from bench.purchase_files import PARTS, SPAN_DAYS, write_customers, write_purchases
from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, rfc3339

NOW = 1_796_000_000_000


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_have_every_purchase_once_oldest_first_and_each_customer_buys_equally_often(tmp_path: Path) -> None:
    members = [each["external_id"] for each in rows(write_customers(tmp_path / "customers.csv", 40))]
    files = [rows(path) for path in write_purchases(tmp_path, 400, 40, NOW)]
    assert [len(each) for each in files] == [40] * PARTS
    purchases = [row for each in files for row in each]
    assert len({row["external_id"] for row in purchases}) == 400
    assert Counter(row["customer_external_id"] for row in purchases) == dict.fromkeys(members, 10)
    times = [row["occurred_at"] for row in purchases]
    assert times == sorted(times)
    assert rfc3339(NOW - SPAN_DAYS * MS_PER_DAY) <= times[0]
    assert times[-1] < rfc3339(NOW)


def test_every_purchase_earns_and_every_fourth_has_items_that_add_up(tmp_path: Path) -> None:
    purchases = [row for path in write_purchases(tmp_path, 400, 40, NOW) for row in rows(path)]
    assert min(int(row["amount"]) for row in purchases) >= 100
    with_items = [row for row in purchases if row["items"]]
    assert len(with_items) == 100
    for row in with_items:
        assert sum(item["amount"] * item["quantity"] for item in json.loads(row["items"])) == int(row["amount"])


def test_tenths_are_interpolated_between_observations() -> None:
    """Half of the work takes the first second, the other half the next four."""
    assert tenths([(0.0, 1_000), (1.0, 500), (5.0, 0)]) == pytest.approx([0.2] * 5 + [0.8] * 5)
    assert tenths([(0.0, 1_000), (10.0, 0)]) == pytest.approx([1.0] * 10)


def test_purchases_and_reads_wait_apart() -> None:
    calls = [Call(is_purchase=n % 2 == 1, at_s=float(n), took_ms=100.0 - n if n % 2 else float(n)) for n in range(10)]
    waits = Waits.of(calls)
    assert waits.purchases.sorted_ms == [91, 93, 95, 97, 99]
    assert waits.reads.sorted_ms == [0, 2, 4, 6, 8]


def test_a_clock_ahead_shows_a_later_time() -> None:
    assert ClockAhead(60_000).now_ms() - SystemClock().now_ms() == pytest.approx(60_000, abs=10_000)
