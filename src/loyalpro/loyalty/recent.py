"""Customers and purchases that were made lately, by the ends of their ids."""

from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.loyalty.ports import LoyaltyUnit


def customers_with_tail(unit: LoyaltyUnit, query: RecentTail) -> list[str]:
    """The ids of customers, newest first."""
    return unit.customers.recent_with_tail(query)


def purchases_with_tail(unit: LoyaltyUnit, query: RecentTail) -> list[str]:
    """The ids of purchases, newest first."""
    return unit.transactions.recent_with_tail(query)
