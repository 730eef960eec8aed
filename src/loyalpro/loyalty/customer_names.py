"""The customers that a list names."""

from collections.abc import Collection, Mapping

from loyalpro.loyalty.entities import Customer, CustomerFilter
from loyalpro.loyalty.ports import LoyaltyUnit


def customers_named(unit: LoyaltyUnit, account_id: str, ids: Collection[str | None]) -> Mapping[str, Customer]:
    """The active ones of these customers, by id."""
    wanted = sorted({each for each in ids if each is not None})
    found = unit.customers.matching(account_id, wanted, CustomerFilter(), len(wanted)) if wanted else []
    return {each.id: each for each in found}
