"""The requests of a merchant's systems: each is one command of the loyalty program, drawn when its time has come."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from loyalpro.kernel.clock import MS_PER_S, UnixMs, rfc3339
from loyalpro.kernel.errors import Conflict, NotFound, Refused
from loyalpro.loyalty.adjustments import AdjustPoints, adjust_points
from loyalpro.loyalty.bulk.imports import ROWS_PER_PIECE, StartImport, read_rows, start_import
from loyalpro.loyalty.customers import EnrollCustomer, enroll_customer
from loyalpro.loyalty.deletion import DeleteCustomer, delete_customer
from loyalpro.loyalty.entities import Redemption
from loyalpro.loyalty.fraud.resolution import ListCases, ResolveCase, list_cases, resolve_case
from loyalpro.loyalty.fraud.rule_changes import ChangeRules, RuleChange, change_rules
from loyalpro.loyalty.merging import MergeCustomer, merge_customer
from loyalpro.loyalty.pending_lots import ChangeLot, activate_lot, cancel_lot
from loyalpro.loyalty.program import ProgramVersion
from loyalpro.loyalty.program_changes import ChangeProgram, ProgramDraft, TierDraft, change_program
from loyalpro.loyalty.recording import NewPurchase, Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.redemptions import (
    CaptureRedemption,
    RedeemPoints,
    RedemptionRef,
    ReverseRedemption,
    cancel_redemption,
    capture_redemption,
    redeem_points,
    reverse_redemption,
)
from loyalpro.loyalty.refunds import NewRefund, RefundPurchase, refund_purchase
from loyalpro.loyalty.returned_lines import Return
from loyalpro.loyalty.tier_assignment import AssignTier, assign_tier
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.web.api.imports import ROW_FORMATS
from simulation.program_profile import ProgramProfile, ProgramRules

Answer = Mapping[str, str | Refused]
"""Of each thing that a request asks for, by its reference: the id of what was made or changed, or the refusal."""

KINDS: Mapping[str, float] = {
    "record": 8.0,
    "refund": 4.0,
    "redeem": 6.0,
    "capture": 2.0,
    "cancel": 2.0,
    "reverse": 2.0,
    "adjust": 4.0,
    "enroll": 1.0,
    "merge": 1.0,
    "delete": 0.5,
    "resolve": 1.0,
    "hold": 1.0,
    "change_program": 1.0,
    "assign": 1.0,
    "change_lot": 1.0,
    "import": 1.0,
}
"""How often each command is drawn."""
_AGES = (0.0, 0.0, 1.0, 20.0, 200.0)
"""How long ago a purchase took place, in parts of a hundredth of the run."""


@dataclass
class Request:
    """What a client asks for, again and again, until it is answered.

    `name`: its reference, unless it asks for several things. `made`: the ids that answers named, by reference. `refused`: the refusals. `in_flight`: an attempt got no answer, and may
    still take effect.
    """

    kind: str
    name: str
    work: Callable[[UnitOfWork], Answer]
    made: dict[str, set[str]] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)
    in_flight: bool = False

    def answer(self, found: Answer) -> None:
        """Note an answer."""
        for reference, outcome in found.items():
            if isinstance(outcome, Refused):
                self.refused[reference] = outcome
            else:
                self.made.setdefault(reference, set()).add(outcome)

    def refuse(self, refusal: Refused) -> None:
        """Note that the request was refused as a whole."""
        self.refused[self.name] = refusal


@dataclass
class Known:
    """What clients have been told. `customers` are all that were enrolled, also those that have ended since."""

    customers: list[str] = field(default_factory=list)
    purchases: list[str] = field(default_factory=list)
    redemptions: list[str] = field(default_factory=list)

    def learn(self, request: Request) -> None:
        """Note the ids that a request was answered with."""
        lists = {"enroll": self.customers, "record": self.purchases, "redeem": self.redemptions}
        known = lists.get(request.kind)
        if known is not None:
            known += [id_ for ids in request.made.values() for id_ in sorted(ids) if id_ not in known]


class Shop:
    """Draws requests of one account."""

    def __init__(self, account_id: str, profile: ProgramProfile) -> None:
        self._account_id = account_id
        self._profile = profile
        self.known = Known()
        self.requests: list[Request] = []

    def draw(self, number: int, now: UnixMs, rng: random.Random) -> Request:
        """The request with this number. Its references begin with `order-` and the number."""
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        if not self._is_possible(kind):
            kind = "record"
        name = f"order-{number}"
        work: Callable[[UnitOfWork], Answer] = getattr(self, f"_{kind}")(name, now, rng)
        request = Request(kind, name, work)
        self.requests.append(request)
        return request

    def draw_next(self, request: Request, rng: random.Random) -> Request | None:
        """What follows on a redemption that was made, soon after it; None after anything else."""
        made = sorted(request.made.get(request.name, ()))
        if request.kind != "redeem" or not made:
            return None
        kind, name = rng.choice(("capture", "cancel", "reverse")), f"{request.name}.next"
        following = Request(kind, name, self._ending(kind, name, made[0]))
        self.requests.append(following)
        return following

    def _is_possible(self, kind: str) -> bool:
        if kind in ("capture", "cancel", "reverse"):
            return bool(self.known.redemptions)
        if kind == "merge":
            return len(self.known.customers) > 1
        return kind != "refund" or bool(self.known.purchases)

    # -- purchases ---------------------------------------------------------------------------------------------------

    def _record(self, name: str, now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        """A batch of purchases; some are old, and some capture a redemption."""
        count = rng.choice((1, 1, 2, 4))
        batch = [self._purchase(f"{name}.{place}", now, rng) for place in range(count)]
        command = RecordPurchases(self._account_id, batch)

        def work(unit: UnitOfWork) -> Answer:
            outcomes = zip(batch, record_purchases(unit, command), strict=True)
            return {
                str(new.external_id): outcome.transaction.id if isinstance(outcome, Purchase) else outcome
                for new, outcome in outcomes
            }

        return work

    def _purchase(self, external_id: str, now: UnixMs, rng: random.Random) -> NewPurchase:
        amounts = [rng.randint(0, 30_000) for _ in range(rng.randint(0, 3))]
        age_s = rng.choice(_AGES) * self._profile.pace.span_s / 100
        paid = self.known.redemptions if rng.random() < 0.2 else []
        return NewPurchase(
            customer_id=rng.choice(self.known.customers),
            customer_external_id=None,
            external_id=external_id,
            amount=sum(amounts) if amounts else rng.randint(0, 60_000),
            currency="EUR",
            # a process whose clock is behind refuses what is in the future
            occurred_at=now - 2 * self._profile.skew_ms - int(age_s * MS_PER_S),
            items=[{"sku": f"sku-{n}", "quantity": 1, "amount": amount} for n, amount in enumerate(amounts)],
            channel=None,
            location_id=None,
            employee_id=None,
            metadata={},
            redemption_ids=(rng.choice(paid),) if paid else (),
        )

    def _refund(self, name: str, _now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        fields: dict[str, Any] = {}
        how = rng.choice(("all", "part", "line"))
        if how == "part":
            fields["amount"] = rng.randint(1, 3_000)
        elif how == "line":
            fields["items"] = (Return(line=0),)
        new = NewRefund(transaction_id=rng.choice(self.known.purchases), external_id=name, **fields)
        return lambda unit: {name: refund_purchase(unit, RefundPurchase(self._account_id, new)).refund.id}

    # -- points ------------------------------------------------------------------------------------------------------

    def _redeem(self, name: str, _now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        every_ms = int(self._profile.pace.every_s * MS_PER_S)
        command = RedeemPoints(
            account_id=self._account_id,
            customer_id=rng.choice(self.known.customers),
            customer_external_id=None,
            points=rng.choice((1, rng.randint(1, 60), rng.randint(1, 400))),
            reward_id=None,
            reserve_ms=rng.choice((None, every_ms, 3 * every_ms)),
            transaction_id=None,
            external_id=name,
            amount=None,
            currency=None,
        )

        def work(unit: UnitOfWork) -> Answer:
            made = redeem_points(unit, command)
            return {name: made if isinstance(made, Refused) else made.redemption.id}

        return work

    def _capture(self, name: str, _now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        return self._ending("capture", name, rng.choice(self.known.redemptions))

    def _cancel(self, name: str, _now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        return self._ending("cancel", name, rng.choice(self.known.redemptions))

    def _reverse(self, name: str, _now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        return self._ending("reverse", name, rng.choice(self.known.redemptions))

    def _ending(self, kind: str, name: str, id_: str) -> Callable[[UnitOfWork], Answer]:
        account_id = self._account_id
        ends: Mapping[str, Callable[[UnitOfWork], Redemption]] = {
            "capture": lambda unit: capture_redemption(unit, CaptureRedemption(account_id, id_, None)),
            "cancel": lambda unit: cancel_redemption(unit, RedemptionRef(account_id, id_)),
            "reverse": lambda unit: reverse_redemption(unit, ReverseRedemption(account_id, id_, None)),
        }
        return lambda unit: {name: ends[kind](unit).id}

    def _adjust(self, name: str, now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        points = rng.randint(1, 400) * rng.choice((1, 1, -1))
        ends_ms = int(rng.choice((3, 10, 40)) * self._profile.pace.every_s * MS_PER_S)
        command = AdjustPoints(
            account_id=self._account_id,
            customer_id=rng.choice(self.known.customers),
            points=points,
            reason_code="goodwill",
            note=None,
            expires_at=now + ends_ms if points > 0 and rng.random() < 0.7 else None,
            counts_toward_tier=rng.random() < 0.5,
            allow_negative=points < 0 and rng.random() < 0.5,
            external_id=name,
        )

        def work(unit: UnitOfWork) -> Answer:
            made = adjust_points(unit, command)
            return {name: made if isinstance(made, Refused) else made.adjustment.id}

        return work

    def _change_lot(self, _name: str, _now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        """Activate or cancel a pending lot of a customer, if there is one."""
        customer, change = rng.choice(self.known.customers), rng.choice((activate_lot, cancel_lot))

        def work(unit: UnitOfWork) -> Answer:
            pending = [each.id for each in unit.ledger.lots_with_points([customer]) if each.status == "pending"]
            for lot_id in sorted(pending)[:1]:
                change(unit, ChangeLot(self._account_id, lot_id))
            return {}

        return work

    # -- customers ---------------------------------------------------------------------------------------------------

    def _enroll(self, name: str, _now: UnixMs, _rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        """Enroll a customer; when the external id exists already, read its customer, as a client does."""
        command = EnrollCustomer(self._account_id, name, None, None, None, {}, source="api")

        def work(unit: UnitOfWork) -> Answer:
            try:
                return {name: enroll_customer(unit, command).id}
            except Conflict:
                [id_] = unit.customers.ids_of(self._account_id, [name])
                return {name: id_}

        return work

    def _merge(self, name: str, _now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        gone, into = rng.sample(self.known.customers, 2)

        def work(unit: UnitOfWork) -> Answer:
            merge_customer(unit, MergeCustomer(self._account_id, gone, into))
            return {name: gone}

        return work

    def _delete(self, name: str, _now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        id_ = rng.choice(self.known.customers)

        def work(unit: UnitOfWork) -> Answer:
            delete_customer(unit, DeleteCustomer(self._account_id, id_))
            return {name: id_}

        return work

    # -- the program -------------------------------------------------------------------------------------------------

    def _resolve(self, _name: str, _now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        """Resolve the newest open case of fraud, if there is one."""
        resolutions: Sequence[Literal["confirmed", "false_positive"]] = ("confirmed", "false_positive")
        resolution = rng.choice(resolutions)

        def work(unit: UnitOfWork) -> Answer:
            for case in list_cases(unit, ListCases(self._account_id, "open", None, None, None, 1)):
                resolve_case(unit, ResolveCase(self._account_id, case.id, resolution))
            return {}

        return work

    def _hold(self, _name: str, _now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        """The rule against many purchases in an hour holds points from then on, or only flags."""
        actions: Sequence[Literal["hold", "flag"]] = ("hold", "flag")
        change = RuleChange("velocity.earn", action=rng.choice(actions), threshold=2)

        def work(unit: UnitOfWork) -> Answer:
            change_rules(unit, ChangeRules(self._account_id, [change]))
            return {}

        return work

    def _change_program(self, _name: str, _now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        rules = ProgramRules.draw(rng, self._profile.rules.tiering)

        def work(unit: UnitOfWork) -> Answer:
            change_program(unit, ChangeProgram(self._account_id, lambda version: draft(version, rules)))
            return {}

        return work

    def _assign(self, _name: str, now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        """Put a customer into any tier, sometimes for a while."""
        place, customer = rng.random(), rng.choice(self.known.customers)
        every_ms = int(self._profile.pace.every_s * MS_PER_S)
        locked_until = now + 2 * self._profile.skew_ms + every_ms if rng.random() < 0.5 else None

        def work(unit: UnitOfWork) -> Answer:
            tiers = unit.programs.get(self._account_id).tiers
            tier = tiers[int(place * len(tiers))]
            assign_tier(unit, AssignTier(self._account_id, customer, tier.id, locked_until, "goodwill"))
            return {}

        return work

    # -- imports -----------------------------------------------------------------------------------------------------

    def _import(self, name: str, now: UnixMs, rng: random.Random) -> Callable[[UnitOfWork], Answer]:
        """Import purchases or opening balances. Many rows without anything in them make a second piece of the last ones."""
        kind: Literal["transactions", "balances"] = rng.choice(("transactions", "balances"))
        row = self._purchase_row if kind == "transactions" else self._balance_row
        rows: list[Any] = [row(f"{name}.{place}", now, rng) for place in range(rng.randint(1, 4))]
        if rng.random() < 0.5:
            rows[1:1] = [None] * ROWS_PER_PIECE
        command = StartImport(self._account_id, kind, rows=rows)
        source = read_rows(command, ROW_FORMATS)

        def work(unit: UnitOfWork) -> Answer:
            start_import(unit, command, source)
            return {}

        return work

    def _purchase_row(self, external_id: str, now: UnixMs, rng: random.Random) -> dict[str, Any]:
        return {
            "customer_id": rng.choice(self.known.customers),
            "external_id": external_id,
            "amount": rng.randint(0, 60_000),
            "currency": "EUR",
            "occurred_at": rfc3339(now - 2 * self._profile.skew_ms),
        }

    def _balance_row(self, external_id: str, _now: UnixMs, rng: random.Random) -> dict[str, Any]:
        return {
            "customer_id": rng.choice(self.known.customers),
            "external_id": external_id,
            "points": rng.randint(1, 400),
        }


def draft(version: ProgramVersion, drawn: ProgramRules) -> ProgramDraft:
    """The program with the rules that a run draws; tiers stay, with another threshold for the second."""
    rules = replace(
        version.rules,
        expiry=drawn.expiry,
        refunds=drawn.refunds,
        tiering=drawn.tiering,
        pending_days=drawn.pending_days,
    )
    tiers = tuple(
        TierDraft(
            each.id,
            each.name,
            drawn.silver if each.rank == 2 else each.threshold,
            1_500 if each.rank > 1 else each.multiplier_permille,
            each.benefits,
        )
        for each in version.tiers
    )
    return ProgramDraft(rules, tiers, None)


def is_about_a_customer_that_ended(refusal: Refused) -> bool:
    """A repeated request can be refused so although it took effect: its customer has been merged or deleted since."""
    return isinstance(refusal, NotFound)
