"""Activates and expires points whose time has come, customer by customer. A book that opens a customer does the work."""

from collections.abc import Sequence
from typing import Final

from loyalpro.jobs.periodic_job import JobKind
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.sweeps.sweep import Due

EXPIRY: Final = JobKind("expiry")


def find_due(unit: LoyaltyUnit, after: Due | None, limit: int) -> Sequence[Due]:
    """Customers with points that become active or expire, also by inactivity, the longest due ones first."""
    return [Due(*row) for row in unit.customers.due(unit.now, _place(after), limit)]


def settle(unit: LoyaltyUnit, account_id: str, ids: Sequence[str]) -> int:
    """Settle customers; how many had something due. Emits `points.expired`."""
    book = Book(unit, account_id, ids=ids)
    settled = sum(wallet.is_changed for wallet in book.wallets)
    book.write()
    return settled


def _place(after: Due | None) -> tuple[int, str] | None:
    return None if after is None else (after.at, after.id)
