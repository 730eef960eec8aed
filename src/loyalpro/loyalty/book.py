"""The wallets of one database transaction: read together, each under the lock of its customer, and written together."""

from collections.abc import Collection, Iterable, Iterator

from loyalpro.events.new_event import NewEvent
from loyalpro.kernel.origin import Origin
from loyalpro.loyalty.entities import Customer, DayTotals, Transaction
from loyalpro.loyalty.expiry import Day
from loyalpro.loyalty.ledger import Entry, Lot
from loyalpro.loyalty.lots import held_on
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.tier_moves import TierMoves
from loyalpro.loyalty.wallet import Wallet


class Book:
    """The customers that a command names, as they are after what was decided so far.

    Every command that changes customers locks them here, so that no two transactions wait for each other: external ids become
    ids without a lock; then one statement locks all customers in the order of their ids. What was looked up may have changed
    before the lock was taken, so only the locked rows count: a customer that was deleted meanwhile, or that has another
    external id now, is not in the book.

    What is due is settled before anything is decided: points whose time has come are activated and expired, so that a late
    sweep changes no decision.
    """

    def __init__(
        self,
        unit: LoyaltyUnit,
        account_id: str,
        *,
        ids: Collection[str] = (),
        external_ids: Collection[str] = (),
        with_lots: bool = False,
        with_deleted: bool = False,
        only_reads: bool = False,
    ) -> None:
        """`with_lots`: also read the lots that hold points, for a command that takes points out of them.

        `with_deleted`: also lock deleted customers, for a command about what was theirs. `only_reads`: nothing is locked, to
        find out what a command would do; such a book is never written.
        """
        self.account_id = account_id
        self.program = unit.programs.get(account_id)
        self._unit = unit
        self._events = _EventBuffer(unit)
        find = _unlocked if only_reads else _locked
        customers = find(unit, account_id, ids, external_ids, with_deleted=with_deleted)
        read = [each.id for each in customers if with_lots or _is_due(each, unit.now)]
        lots = _lots_by_customer(unit, read)
        self._wallets = {
            each.id: Wallet(each, self._events, self.program, lots=lots.get(each.id)) for each in customers
        }
        self._ids = {each.external_id: each.id for each in customers if each.external_id is not None}
        self._transactions: list[Transaction] = []
        self._stored_days: dict[Day, dict[str, DayTotals]] = {}
        self._stored_lots: dict[str, list[Lot]] | None = None
        self.tiers = TierMoves(unit, self.program, self._wallets)
        for wallet in self._wallets.values():
            if wallet.is_due:
                wallet.settle()

    def wallet(self, customer_id: str) -> Wallet | None:
        """The wallet of a customer that the command named and the book has locked; else None."""
        return self._wallets.get(customer_id)

    def wallet_by_external_id(self, external_id: str) -> Wallet | None:
        """The same, for a customer that the command named by the merchant's id."""
        customer_id = self._ids.get(external_id)
        return None if customer_id is None else self._wallets[customer_id]

    @property
    def wallets(self) -> Iterable[Wallet]:
        """All wallets, in the order of their ids."""
        return self._wallets.values()

    def open(self, customer: Customer) -> Wallet:
        """The wallet of a customer that this command enrolls; the command stores the customer itself."""
        wallet = self._wallets[customer.id] = Wallet(customer, self._events, self.program, lots=())
        return wallet

    def day(self, wallet: Wallet, day: Day) -> DayTotals:
        """A day of a customer, with what was decided so far."""
        if day not in self._stored_days:
            self._stored_days[day] = self._unit.days.totals(list(self._wallets), day, day)
        stored = self._stored_days[day].get(wallet.id)
        return wallet.days.with_changes(day, stored)

    def earned_on(self, wallet: Wallet, day: Day) -> int:
        """What counts toward the most points of a customer on a day: also points that cases hold, which may come yet."""
        if self._stored_lots is None:
            pending = [each.id for each in self._wallets.values() if each.balance.pending]
            self._stored_lots = _lots_by_customer(self._unit, pending)
        known = {lot.id: lot for lot in (*self._stored_lots.get(wallet.id, ()), *wallet.lots.all)}
        return self.day(wallet, day).points_qualifying + held_on(known.values(), day, self.program.rules.time_zone)

    def add_transaction(self, transaction: Transaction) -> None:
        """A purchase to be stored."""
        self._transactions.append(transaction)

    def write(self) -> bool:
        """Store everything that changed, and emit what happened.

        False when a customer got an external id that another customer has. Without this call nothing is stored or emitted, also
        of what was settled.
        """
        unit = self._unit
        changed = [each for each in self._wallets.values() if each.is_changed or each.has_new_due_time]
        renamed = sorted((each.customer for each in changed if each.has_new_details), key=_has_external_id)
        if not all(unit.customers.update_details(each) for each in renamed):
            return False
        unit.transactions.insert(self._transactions)
        unit.ledger.insert_entries(sorted((entry for each in changed for entry in each.entries), key=_id))
        unit.ledger.insert_lots(sorted((lot for each in changed for lot in each.lots.new), key=_id))
        unit.ledger.insert_allocations([allocation for each in changed for allocation in each.allocations])
        unit.ledger.update_lots([lot for each in changed for lot in each.lots.changed])
        unit.customers.update_points([each.customer for each in changed if not each.has_new_standing])
        unit.customers.update_state([each.customer for each in changed if each.has_new_standing])
        unit.days.add(sorted(self._days(), key=lambda each: (each.customer_id, each.day)))
        self._events.release()
        return True

    def _days(self) -> Iterator[DayTotals]:
        for wallet in self._wallets.values():
            yield from wallet.days.changed()


class _EventBuffer:
    """The unit of work of wallets: it keeps their events until the book is written, each with what caused it."""

    def __init__(self, unit: LoyaltyUnit) -> None:
        self.now = unit.now
        self.ids = unit.ids
        self._unit = unit
        self._kept: list[tuple[NewEvent, Origin | None, bool]] = []

    def emit(self, event: NewEvent) -> None:
        """Keep an event."""
        self._kept.append((event, self._unit.origin, self._unit.is_import))

    def release(self) -> None:
        """Emit the events, in their order."""
        for event, origin, is_import in self._kept:
            self._unit.origin, self._unit.is_import = origin, is_import
            self._unit.emit(event)
        self._kept.clear()


def _locked(
    unit: LoyaltyUnit, account_id: str, ids: Collection[str], external_ids: Collection[str], *, with_deleted: bool
) -> list[Customer]:
    looked_up = unit.customers.ids_of(account_id, external_ids) if external_ids else []
    wanted = {*ids, *looked_up}
    return unit.customers.lock(account_id, wanted, with_deleted=with_deleted) if wanted else []


def _unlocked(
    unit: LoyaltyUnit, account_id: str, ids: Collection[str], external_ids: Collection[str], *, with_deleted: bool
) -> list[Customer]:
    """The customers that `_locked` would find, as they are now."""
    looked_up = unit.customers.ids_of(account_id, external_ids) if external_ids else []
    statuses = ("active", "deleted") if with_deleted else ("active",)
    found = [unit.customers.get(account_id, id_) for id_ in sorted({*ids, *looked_up})]
    return [each for each in found if each is not None and each.status in statuses]


def _lots_by_customer(unit: LoyaltyUnit, customer_ids: Collection[str]) -> dict[str, list[Lot]]:
    """The lots that hold points, of each of these customers; a customer that is not among them has no list."""
    found: dict[str, list[Lot]] = {each: [] for each in customer_ids}
    for lot in unit.ledger.lots_with_points(customer_ids) if customer_ids else ():
        found[lot.customer_id].append(lot)
    return found


def _is_due(customer: Customer, now: int) -> bool:
    return customer.next_due_at is not None and customer.next_due_at <= now


def _has_external_id(customer: Customer) -> bool:
    """Customers that give up their external ids come first: another one may take over the id."""
    return customer.external_id is not None


def _id(row: Entry | Lot) -> str:
    """Ids ascend in the order in which they were made."""
    return row.id
