"""Reviews tiers whose time has come, when their days of grace are over."""

from collections.abc import Sequence
from typing import Final

from loyalpro.jobs.periodic_job import JobKind
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.sweeps.sweep import Due
from loyalpro.loyalty.tiers import review_deadline

TIER_REVIEW: Final = JobKind("tier_review")


def find_to_review(unit: LoyaltyUnit, after: Due | None, limit: int) -> Sequence[Due]:
    """Customers whose review is due, account by account: each program has days of grace of its own."""
    found: list[Due] = []
    first = "" if after is None else after.account_id
    for account_id in unit.customers.accounts_to_review(unit.now, first):
        rules = unit.programs.get(account_id).rules
        deadline = review_deadline(rules.tiering, unit.now, rules.time_zone)
        place = (after.at, after.id) if after is not None and account_id == first else None
        rows = unit.customers.to_review(account_id, deadline, place, limit - len(found))
        found += [Due(account_id, id_, at) for id_, at in rows]
        if len(found) == limit:
            break
    return found


def review(unit: LoyaltyUnit, account_id: str, ids: Sequence[str]) -> int:
    """Review customers; how many were due. Emits `customer.tier_changed` for each whose tier changes."""
    book = Book(unit, account_id, ids=ids)
    reviewed = book.tiers.review(list(book.wallets))
    book.write()
    return reviewed
