"""The wallets of one database transaction: read together, each under the lock of its customer, and written together."""

from collections.abc import Collection

from loyalpro.loyalty.entities import Customer, Transaction
from loyalpro.loyalty.ledger import Entry, Lot
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.wallet import Wallet


class Book:
    """The customers that a command names, as they are after what was decided so far.

    Every command that changes customers locks them here, so that no two transactions wait for each other: external ids become
    ids without a lock; then one statement locks all customers in the order of their ids. What was looked up may have changed
    before the lock was taken, so only the locked rows count: a customer that was deleted meanwhile, or that has another
    external id now, is not in the book.
    """

    def __init__(
        self,
        unit: LoyaltyUnit,
        account_id: str,
        *,
        ids: Collection[str] = (),
        external_ids: Collection[str] = (),
        with_lots: bool = False,
    ) -> None:
        """`with_lots`: also read the lots that hold points, for a command that takes points out of them."""
        self._unit = unit
        customers = _locked(unit, account_id, ids, external_ids)
        lots = _lots_by_customer(unit, customers) if with_lots else {}
        self._wallets = {
            each.id: Wallet(each, unit, lots=lots.get(each.id, ()) if with_lots else None) for each in customers
        }
        self._ids = {each.external_id: each.id for each in customers if each.external_id is not None}
        self._transactions: list[Transaction] = []

    def wallet(self, customer_id: str) -> Wallet | None:
        """The wallet of an active customer that the command named; else None."""
        return self._wallets.get(customer_id)

    def wallet_by_external_id(self, external_id: str) -> Wallet | None:
        """The same, for a customer that the command named by the merchant's id."""
        customer_id = self._ids.get(external_id)
        return None if customer_id is None else self._wallets[customer_id]

    def add_transaction(self, transaction: Transaction) -> None:
        """A purchase to be stored."""
        self._transactions.append(transaction)

    def write(self) -> bool:
        """Store everything that changed. False when a customer got an external id that another customer has."""
        unit = self._unit
        changed = [each for each in self._wallets.values() if each.is_changed]
        if not all(unit.customers.update_details(each.customer) for each in changed if each.has_new_details):
            return False
        unit.transactions.insert(self._transactions)
        unit.ledger.insert_entries(sorted((entry for each in changed for entry in each.entries), key=_id))
        unit.ledger.insert_lots(sorted((lot for each in changed for lot in each.new_lots), key=_id))
        unit.ledger.insert_allocations([allocation for each in changed for allocation in each.allocations])
        unit.ledger.update_lots([lot for each in changed for lot in each.changed_lots])
        unit.customers.update_points([each.customer for each in changed])
        return True


def _locked(unit: LoyaltyUnit, account_id: str, ids: Collection[str], external_ids: Collection[str]) -> list[Customer]:
    looked_up = unit.customers.ids_of(account_id, external_ids) if external_ids else []
    wanted = {*ids, *looked_up}
    return unit.customers.lock(account_id, wanted) if wanted else []


def _lots_by_customer(unit: LoyaltyUnit, customers: Collection[Customer]) -> dict[str, list[Lot]]:
    found: dict[str, list[Lot]] = {}
    for lot in unit.ledger.lots_with_points([each.id for each in customers]) if customers else []:
        found.setdefault(lot.customer_id, []).append(lot)
    return found


def _id(row: Entry | Lot) -> str:
    """Ids ascend in the order in which they were made."""
    return row.id
