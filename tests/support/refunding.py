"""Refunds of one purchase without a database: what each takes, when nothing else happens to the points."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from loyalpro.events.transaction import Item
from loyalpro.kernel.clock import VirtualClock
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.earning import EarnRule, EarnSettings, Rate
from loyalpro.loyalty.entities import Refund, Transaction
from loyalpro.loyalty.orders import Order
from loyalpro.loyalty.pricing import Earner, price
from loyalpro.loyalty.program import Rules, default_program
from loyalpro.loyalty.refund_decisions import (
    accounted,
    lines_returned,
    money,
    paid_for,
    refunded,
    repayments,
    worth_left,
)
from loyalpro.loyalty.refund_math import need, target
from loyalpro.loyalty.returned_lines import Return, returned_item, returned_lines
from loyalpro.loyalty.tiers import Tier

DEFAULT = default_program(IdFactory(VirtualClock(), random.Random(1))).rules
ONE_PER_EURO = EarnRule("rule_1", "1 per 1.00", {"EUR": Rate(1, 100)})


def rules(settings: EarnSettings | None = None, **changes: Any) -> Rules:
    """The default rules with other settings for earning."""
    return replace(DEFAULT, earning=replace(settings or EarnSettings((ONE_PER_EURO,)), **changes))


def sold(
    amount: int, items: Sequence[Item] = (), *, of: Rules = DEFAULT, points: int | None = None, **parts: Any
) -> "Sale":
    """A purchase in EUR with the points that it earns, or with `points` that it was given."""
    priced = price(Order(amount, "EUR", items=items, **parts), of, Earner(Tier("tier_b", "Bronze", 1, 0)), (), 0)
    transaction = Transaction(
        id="txn_1",
        account_id="acct_1",
        customer_id="cus_1",
        external_id=None,
        currency="EUR",
        amount=amount,
        items=list(items),
        channel=None,
        location_id=None,
        employee_id=None,
        metadata={},
        points_earned=priced.points if points is None else points,
        occurred_at=0,
        created_at=0,
        actor=None,
        base_amount=amount,
        priced=priced.frozen,
        **parts,
    )
    return Sale(transaction, of)


@dataclass
class Sale:
    """A purchase and its refunds. `lost`: how many of its points expired so far."""

    transaction: Transaction
    of: Rules
    refunds: list[Refund] = field(default_factory=list)
    lost: int = 0

    def refund(self, amount: int | None = None, *items: Return) -> Refund:
        """Refund the purchase as a command does. All points that it needs are there."""
        sale = self.transaction
        lines = returned_lines(sale.items, lines_returned(self.refunds), items)
        asked = Refund(
            id=f"ref_{len(self.refunds)}",
            account_id=sale.account_id,
            transaction_id=sale.id,
            customer_id=sale.customer_id,
            external_id=None,
            fingerprint=b"",
            amount=money(sale, self.refunds, amount, lines),
            items=[{**returned_item(sale.items, each), "line": each.line} for each in lines],
            reason=None,
            actor="key:key_1",
            points_clawed_back=0,
            points_restored=0,
            points_shortfall=0,
            points_expired_before=0,
            occurred_at=0,
            created_at=0,
        )
        refunds = [*self.refunds, asked]
        returned = lines_returned(refunds)
        worth = worth_left(sale, self.of, returned) if returned else None
        wanted = target(paid_for(sale), repayments(refunds), worth)
        taken = need(wanted, self.lost, sale.points_clawed_back)
        gone = max(0, wanted - sum(accounted(each) for each in self.refunds)) - taken
        done = replace(asked, points_clawed_back=taken, points_expired_before=gone)
        self.transaction = refunded(sale, done)
        self.refunds.append(done)
        return done

    @property
    def taken(self) -> list[int]:
        """What each refund took."""
        return [each.points_clawed_back for each in self.refunds]
