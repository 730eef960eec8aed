"""The files of a business that moves to LoyalPro: its customers, and the purchases of ten months in ten files, oldest first."""

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path

from loyalpro.kernel.clock import MS_PER_DAY, UnixMs, rfc3339

PARTS = 10
SPAN_DAYS = 300
_EVERY_WITH_ITEMS = 4
_LOCATIONS = 300
_HEADER = ("external_id", "customer_external_id", "amount", "occurred_at", "channel", "location_id", "items")


def write_customers(path: Path, count: int) -> Path:
    """A file of customers; the path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(("external_id", "name", "email"))
        out.writerows((_customer(n), f"Customer {n}", f"customer-{n}@example.com") for n in range(count))
    return path


def write_purchases(folder: Path, purchases: int, customers: int, now: UnixMs) -> list[Path]:
    """Files with equal parts of the purchases before `now`; their paths."""
    paths = [folder / f"purchases-{part}.csv" for part in range(PARTS)]
    size = purchases // PARTS
    for part, path in enumerate(paths):
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(_HEADER)
            out.writerows(_rows(range(part * size, (part + 1) * size), purchases, customers, now))
    return paths


def _rows(numbers: range, purchases: int, customers: int, now: UnixMs) -> Iterator[tuple[object, ...]]:
    """Every customer buys equally often, at random places of the order. Every fourth purchase has items."""
    rng = random.Random(numbers.start)
    for number in numbers:
        at = now - SPAN_DAYS * MS_PER_DAY + number * SPAN_DAYS * MS_PER_DAY // purchases
        price, quantity = rng.randrange(200, 4_000), rng.randrange(1, 4)
        items = [{"sku": f"SKU-{rng.randrange(500)}", "quantity": quantity, "amount": price}]
        yield (
            f"receipt-{number}",
            _customer(number * 7_919 % customers),
            price * quantity,
            rfc3339(at),
            rng.choice(("pos", "web")),
            f"store-{rng.randrange(_LOCATIONS)}",
            "" if number % _EVERY_WITH_ITEMS else json.dumps(items),
        )


def _customer(number: int) -> str:
    return f"member-{number}"
