"""What one customer has, and from where: balance, ledger with its causes, lots, tier, churn and fraud."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from loyalpro.kernel.record import record
from loyalpro.loyalty.churn.entities import CustomerScore
from loyalpro.loyalty.customers import GetCustomer, ListOfCustomer, get_customer
from loyalpro.loyalty.entities import Customer, DayTotals
from loyalpro.loyalty.expiry import NEVER, add_months, day_of
from loyalpro.loyalty.fraud.cases import FraudCase
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.loyalty.ledger import Entry, EntryCause, Lot
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.program import Program
from loyalpro.loyalty.qualifying import TierStatus, tier_status

MOST_LOTS: Final = 100
"""How many lots are looked at, those that expire first."""
MOST_CASES: Final = 20
_MONTHS: Final = 12


@record
class Ledger:
    """Entries, newest first, with what caused them by the id of their source, and whether there are older ones."""

    entries: Sequence[Entry]
    causes: Mapping[str, EntryCause] = field(hash=False)
    has_older: bool


@record
class CustomerOverview:
    """One customer. `lots`: those that expire first. `year`: the sums of the last 12 months. `cases`: the newest ones."""

    customer: Customer
    program: Program
    tier: TierStatus
    ledger: Ledger
    lots: Sequence[Lot]
    year: DayTotals
    churn: CustomerScore | None
    cases: Sequence[FraudCase]

    @property
    def next_expiry(self) -> tuple[int, int] | None:
        """How many points expire next, and when; None while nothing expires."""
        if self.customer.points_expire_at is not None and self.customer.balance.available:
            return self.customer.balance.available, self.customer.points_expire_at
        due = [each for each in self.lots if each.status == "active" and each.expires_at < NEVER]
        if not due:
            return None
        first = due[0].expires_at
        return sum(each.remaining for each in due if each.expires_at == first), first

    @property
    def usable_from(self) -> int | None:
        """When the first pending points become available; None when no time is set."""
        return min(
            (each.activates_at for each in self.lots if each.status == "pending" and each.activates_at is not None),
            default=None,
        )


def get_customer_overview(unit: FraudUnit, query: ListOfCustomer) -> CustomerOverview:
    """One customer with its entries before `query.before_id`, at most `limit`. Raises `NotFound` `customer_not_found`."""
    customer = get_customer(unit, GetCustomer(query.account_id, query.customer_id))
    program = unit.programs.get(query.account_id)
    today = day_of(unit.now, program.rules.time_zone)
    window = (add_months(today, -_MONTHS) + 1, today)
    scores = unit.churn.list_scores(query.account_id, None, customer.id, "", 1)
    return CustomerOverview(
        customer=customer,
        program=program,
        tier=tier_status(unit, program, customer),
        ledger=_ledger(unit, query),
        lots=unit.ledger.next_to_expire(customer.id, MOST_LOTS),
        year=next(iter(unit.days.sums_in({customer.id: window})), DayTotals(customer.id, today, query.account_id)),
        churn=scores[0].score if scores else None,
        cases=unit.fraud.list_cases(query.account_id, None, None, customer.id, None, MOST_CASES),
    )


def _ledger(unit: LoyaltyUnit, query: ListOfCustomer) -> Ledger:
    found = unit.ledger.list_entries(query.customer_id, query.before_id, query.limit + 1)
    entries = found[: query.limit]
    sources = {each.source_id for each in entries if each.source_type in ("transaction", "refund", "redemption")}
    causes = {each.id: each for each in unit.ledger.causes(sources)} if sources else {}
    return Ledger(entries, causes, len(found) > query.limit)
