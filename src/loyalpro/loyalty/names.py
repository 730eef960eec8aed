"""Customers whose ids are known, for lists that name them."""

from collections.abc import Collection, Mapping

from loyalpro.loyalty.entities import Customer, CustomerFilter
from loyalpro.loyalty.ports import LoyaltyUnit


def customers_by_id(unit: LoyaltyUnit, account_id: str, customer_ids: Collection[str]) -> Mapping[str, Customer]:
    """The active ones of these customers of an account, by their ids."""
    ids = sorted(set(customer_ids))
    if not ids:
        return {}
    return {each.id: each for each in unit.customers.matching(account_id, ids, CustomerFilter(), len(ids))}
