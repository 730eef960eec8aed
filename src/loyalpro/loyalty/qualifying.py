"""How customers stand toward the tiers: the program's metric in a window of days, with what this transaction adds to it."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import Customer, DayTotals
from loyalpro.loyalty.expiry import Day, day_of
from loyalpro.loyalty.ports import DayStore
from loyalpro.loyalty.program import Program
from loyalpro.loyalty.tiers import Metric, Tier, window_days
from loyalpro.loyalty.wallet import Wallet


class QualifyingUnit(Protocol):
    """What is needed of the unit of work."""

    @property
    def now(self) -> UnixMs:
        """The instant of this unit of work."""
        ...

    @property
    def days(self) -> DayStore:
        """The days of customers."""
        ...


@record
class Standing:
    """The value of the program's metric in a window, which has a first and a last day. `ALL_DAYS` is a lifetime."""

    value: int
    first: Day
    last: Day


@record
class TierStatus:
    """How a customer stands today, and the next tier; `remaining`: what is missing to it. None in the highest tier."""

    standing: Standing
    following: Tier | None
    remaining: int


class Qualifying:
    """The standings of the customers of one database transaction. What is stored of a window is read once."""

    def __init__(self, unit: QualifyingUnit, program: Program) -> None:
        self.today = day_of(unit.now, program.rules.time_zone)
        self._unit = unit
        self._program = program
        self._metric = program.rules.tiering.metric
        self._stored: dict[tuple[str, Day, Day], int] = {}

    def read(self, wallets: Iterable[Wallet], days: Mapping[str, Day] | None = None) -> None:
        """Read, in one statement, what is stored of windows that have not been read.

        `days`: the window of each customer is the one that contains this day; without them, the one that contains today.
        """
        windows = {each.id: self._window(each.profile, (days or {}).get(each.id, self.today)) for each in wallets}
        unread = {id_: window for id_, window in windows.items() if (id_, *window) not in self._stored}
        if not unread:
            return
        self._stored |= {(id_, *window): 0 for id_, window in unread.items()}
        for sums in self._unit.days.sums_in(unread):
            self._stored[sums.customer_id, *unread[sums.customer_id]] = counted(self._metric, sums)

    def standing(self, wallet: Wallet, day: Day | None = None) -> Standing:
        """How a customer stands in the window that contains `day`, or today, after what was decided so far."""
        at = self.today if day is None else day
        self.read([wallet], {wallet.id: at})
        first, last = self._window(wallet.profile, at)
        changes = (counted(self._metric, each) for each in wallet.days.changed() if first <= each.day <= last)
        return Standing(self._stored[wallet.id, first, last] + sum(changes), first, last)

    def _window(self, customer: Customer, day: Day) -> tuple[Day, Day]:
        return _window(self._program, customer, day)


def tier_status(unit: QualifyingUnit, program: Program, customer: Customer) -> TierStatus:
    """How a stored customer stands today."""
    first, last = _window(program, customer, day_of(unit.now, program.rules.time_zone))
    sums = unit.days.sums_in({customer.id: (first, last)})
    value = sum(counted(program.rules.tiering.metric, each) for each in sums)
    following = program.next_tier(customer.tier)
    return TierStatus(Standing(value, first, last), following, missing(following, value))


def missing(following: Tier | None, value: int) -> int:
    """What is missing to the next tier; 0 without one."""
    return 0 if following is None else max(0, following.threshold - value)


def _window(program: Program, customer: Customer, day: Day) -> tuple[Day, Day]:
    enrolled_on = day_of(customer.created_at, program.rules.time_zone)
    return window_days(program.rules.tiering.window, day, enrolled_on)


def counted(metric: Metric, totals: DayTotals) -> int:
    """What counts for the metric. All of it is net of refunds."""
    if metric == "points_earned":
        return totals.points_qualifying
    return totals.spend if metric == "spend" else totals.purchases
