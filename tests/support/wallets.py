"""Wallets without a database: a customer with its whole ledger in memory, and a clock that a test moves."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.events.new_event import NewEvent
from loyalpro.kernel.clock import UnixMs, VirtualClock
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.expiry import NEVER, ExpiryPolicy
from loyalpro.loyalty.ledger import Allocation, Balance, Entry, Lot, discrepancies
from loyalpro.loyalty.program import Program, default_program
from loyalpro.loyalty.wallet import Adjustment, Cause, Credit, Earning, Redeemed, Wallet

NOW = 1_763_980_200_000
PROGRAM = default_program(IdFactory(VirtualClock(NOW), random.Random(0)))


@dataclass
class Unit:
    """A unit of work that collects events. The test moves `now`."""

    ids: IdFactory = field(default_factory=lambda: IdFactory(VirtualClock(NOW), random.Random(1)))
    now: UnixMs = NOW
    events: list[NewEvent] = field(default_factory=list)

    def emit(self, event: NewEvent) -> None:
        self.events.append(event)


@dataclass
class Stored:
    """A customer with its whole ledger, as a store would have it; each operation reads a wallet and writes it back."""

    customer: Customer
    unit: Unit = field(default_factory=Unit)
    program: Program = PROGRAM
    entries: list[Entry] = field(default_factory=list)
    lots: dict[str, Lot] = field(default_factory=dict)
    allocations: list[Allocation] = field(default_factory=list)

    def wallet(self) -> Wallet:
        """The wallet as a book reads it, settled."""
        held = [lot for lot in self.lots.values() if lot.remaining]
        wallet = Wallet(self.customer, self.unit, self.program, lots=held)
        if wallet.is_due:
            wallet.settle()
        return wallet

    def write(self, wallet: Wallet) -> None:
        """Store what the wallet changed."""
        self.customer = wallet.customer
        self.entries += wallet.entries
        self.allocations += wallet.allocations
        self.lots |= {lot.id: lot for lot in [*wallet.lots.new, *wallet.lots.changed]}

    def spent(self, entry_id: str) -> list[tuple[Lot, int]]:
        """The lots that an entry took points out of, and how many from each."""
        return [(self.lots[each.lot_id], each.points) for each in self.allocations if each.entry_id == entry_id]

    def events(self, kind: str = "") -> list[NewEvent]:
        """The customer's events whose type begins so."""
        mine = [each for each in self.unit.events if each.customer_id == self.customer.id]
        return [each for each in mine if each.type.startswith(kind)]

    def check(self) -> None:
        """Everything adds up, every event follows the one before, and each entry but `activate` has one `points.*` event."""
        assert discrepancies(self.customer.balance, self.entries, list(self.lots.values()), self.allocations) == []
        assert [each.sequence for each in self.events()] == list(range(1, self.customer.event_sequence + 1))
        assert self.customer.ledger_sequence == len(self.entries)
        told = [(each.id, abs(each.points)) for each in self.entries if each.type != "activate"]
        points = self.events("points.")
        assert [(each.data["entry_id"], abs(each.data["points"])) for each in points] == told
        self._check_events(points)
        due = [at for lot in self.lots.values() if (at := _due_at(lot)) is not None]
        earliest = min(due, default=None)
        assert earliest is None or (self.customer.next_due_at or NEVER) <= earliest

    def _check_events(self, points: list[NewEvent]) -> None:
        """The balances that events show follow each other, and change by the points that they show."""
        net = pending = 0
        for event in points:
            assert EVENT_TYPES[event.type].read(event.data).data() == event.data
            shown, signed = event.data["balance"], signed_points(event)
            before, after = shown["before"] - shown["debt_before"], shown["after"] - shown["debt"]
            assert after + shown["pending"] - before - shown["pending_before"] == signed
            assert min(shown.values()) >= 0
            assert not (shown["after"] and shown["debt"])
            net, pending = net + signed, shown["pending"]
        balance = self.customer.balance
        assert net == balance.net + balance.pending, (net, pending)


def signed_points(event: NewEvent) -> int:
    """The points of a `points.*` event, negative when they go."""
    points: int = event.data["points"]
    return -points if event.type in ("points.redeemed", "points.expired") else points


def _due_at(lot: Lot) -> UnixMs | None:
    if not lot.remaining or lot.status == "canceled":
        return None
    return lot.activates_at if lot.status == "pending" else lot.expires_at if lot.expires_at < NEVER else None


def customer(id_: str = "cus_1", balance: Balance | None = None) -> Customer:
    """A customer of the default program without a past."""
    return Customer(
        id=id_,
        account_id="acct_1",
        external_id=f"shop-{id_}",
        email=None,
        phone=None,
        name=None,
        metadata={},
        tier=PROGRAM.tiers[0],
        balance=balance or Balance(),
        created_at=1,
        updated_at=1,
    )


def with_policy(**policy: Any) -> Program:
    """The default program with another expiry policy."""
    return replace(PROGRAM, rules=replace(PROGRAM.rules, expiry=ExpiryPolicy(**policy)))


_COUNT = iter(range(1, 10**9))


def cause(source_type: Any = "transaction", source_id: str | None = None, *, at: UnixMs = NOW, **fields: Any) -> Cause:
    """A cause with a source of its own."""
    return Cause(source_type, source_id or f"src_{next(_COUNT)}", "key:key_1", at, **fields)


def credit(points: int, expires_at: UnixMs = NEVER, **fields: Any) -> Credit:
    """Active points, of no purchase."""
    return Credit(points, expires_at, **fields)


def earning(points: int) -> Earning:
    """An earning by one rule."""
    return Earning(({"id": "rule_1", "name": "r", "points": points},))


def redeemed(redemption_id: str, *, reserved_until: UnixMs | None = None) -> Redeemed:
    """A redemption without a reward."""
    return Redeemed(redemption_id, None, None, None, reserved_until)


CLAWBACK = Adjustment("clawback", counts_toward_tier=True)
MANUAL = Adjustment("manual")
REVERSAL = Adjustment("redemption_reversal")
CANCELED = Adjustment("pending_canceled")
