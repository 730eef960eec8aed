"""Evaluates fraud rules for one command, in its database transaction: what they find, which cases come of it, what is reported.

A command makes one `Screening` with its `Book`, and calls it for each purchase, redemption, refund, credit or customer in
turn. What was judged before counts, so a batch has the outcomes that its members would have one by one.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from loyalpro.events.fraud import FraudDetected, FraudRule, FraudTrigger
from loyalpro.events.fraud import Measurement as MeasurementShown
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import Conflict
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.contact import email_identity, keyed_hash, phone_key
from loyalpro.loyalty.entities import Transaction
from loyalpro.loyalty.fraud.batch import BatchMeasures, Plan
from loyalpro.loyalty.fraud.cases import (
    FraudCase,
    Step,
    hash_of_key,
    key_hash,
    next_step,
    opened,
    repeated,
    revealed,
    shown_measurement,
)
from loyalpro.loyalty.fraud.judgment import (
    Finding,
    judge_credit,
    judge_identity,
    judge_purchase,
    judge_redemption,
    judge_refund,
)
from loyalpro.loyalty.fraud.measure import (
    Credit,
    Moment,
    NewCredit,
    NewPurchase,
    NewRedemption,
    NewRefund,
    PurchaseFact,
    SeenCustomer,
    Sighting,
    SightingKind,
    is_live,
    sightings_of,
    signal,
)
from loyalpro.loyalty.fraud.ports import CaseKey, FraudUnit, HeldLot
from loyalpro.loyalty.fraud.rules import Action, IdentityShared, Params, ReceiptDuplicate, RuleSet
from loyalpro.loyalty.program import Program
from loyalpro.loyalty.wallet import Wallet


@record
class Decision:
    """What the rules do to an event. `case_ids`: the cases that hold its points. `refusal`: why it must not happen."""

    case_ids: tuple[str, ...] = ()
    refusal: Conflict | None = None

    @property
    def hold_case_id(self) -> str | None:
        """The first case that holds the points; None when none does."""
        return self.case_ids[0] if self.case_ids else None


@record
class _Event:
    """What is judged: its type, the object that it is about, and how many points a rule can hold or refuse."""

    type: str
    object_id: str
    points: int = 0
    can_hold: bool = False
    can_refuse: bool = False

    def effect(self, action: Action) -> Action:
        """What an action of a rule comes to: the points of a purchase are held, because it has happened already."""
        if action == "block" and self.can_refuse:
            return "block"
        return "hold" if action != "flag" and self.can_hold and self.points else "flag"


@record
class _Report:
    """A case whose event is still to be emitted."""

    wallet: Wallet
    case: FraudCase
    finding: Finding
    event: _Event


_NO_DECISION: Final = Decision()
_ATTEMPTS: Final = 3
"""How often a case is looked up again that another transaction opens or closes at the same time."""


class Screening:
    """The fraud rules of one command."""

    def __init__(self, unit: FraudUnit, book: Book, plan: Plan = tuple) -> None:
        """`plan`: the purchases that the command is going to record."""
        self._unit = unit
        self._book = book
        self._rules = rules_in_force(unit, book.account_id, book.program)
        self._measures = BatchMeasures(unit, book, self._rules, plan)
        self._time_zone = book.program.rules.time_zone
        self._cases: dict[CaseKey, FraudCase | None] = {}
        self._hits: dict[str, tuple[FraudCase, int]] = {}
        self._locked: set[str] = set()
        self._holding: dict[str, tuple[str, ...]] = {}
        self._reports: list[_Report] = []
        self._hash_key: bytes | None = None
        receipts = self._rules.enabled(ReceiptDuplicate)
        self._least_receipt = None if receipts is None else receipts.params.min_amount
        self._compares_values = self._rules.enabled(IdentityShared) is not None

    # -- what is judged ----------------------------------------------------------------------------------------------

    def purchase(self, wallet: Wallet, transaction: Transaction) -> Decision:
        """Judge a purchase before its points are credited: they are pending, with the cases of the decision, if it has any."""
        new = self.planned(
            wallet,
            occurred_at=transaction.occurred_at,
            amount=transaction.amount,
            currency=transaction.currency,
            base_amount=transaction.base_amount,
            employee_id=transaction.employee_id,
            location_id=transaction.location_id,
            device_id=transaction.device_id,
            payment_fingerprint=transaction.payment_fingerprint,
            imported=transaction.source == "import",
            transaction_id=transaction.id,
            points=transaction.points_earned,
        )
        findings = judge_purchase(self._rules, new, self._measures, self._unit.now, self._time_zone)
        points = transaction.points_earned
        type_ = "points.earned" if points else "transaction.completed"
        decision = self._decide(findings, wallet, _Event(type_, transaction.id, points, can_hold=True))
        if is_live(new.fact.occurred_at, self._unit.now, imported=new.fact.imported):
            self._measures.note_purchase(new)
        if decision.case_ids:
            self._holding[transaction.id] = decision.case_ids
        return decision

    def redemption(self, wallet: Wallet, redemption_id: str, points: int) -> Decision:
        """Judge a redemption before its points are taken. After a refusal nothing is taken, and the book is written still."""
        customer = wallet.profile
        new = NewRedemption(
            redemption_id,
            wallet.id,
            points,
            wallet.balance.available,
            max(customer.created_at, customer.last_purchase_at or 0),
            customer.security_changed_at,
        )
        findings = judge_redemption(self._rules, new, self._measures, self._unit.now)
        decision = self._decide(findings, wallet, _Event("points.redeemed", redemption_id, points, can_refuse=True))
        if decision.refusal is None:
            self._measures.note_redemption(wallet.id, Moment(redemption_id, self._unit.now))
        return decision

    def refund(self, wallet: Wallet, refund_id: str, occurred_at: UnixMs, *, debt_before: int) -> None:
        """Judge a refund after its points were taken back. `debt_before`: the customer's debt before that, in points."""
        new = NewRefund(refund_id, wallet.id, occurred_at, debt_before, wallet.balance.debt)
        findings = judge_refund(self._rules, new, self._measures, self._unit.now, self._time_zone)
        self._decide(findings, wallet, _Event("transaction.refunded", refund_id))

    def credit(self, wallet: Wallet, adjustment_id: str, points: int) -> Decision:
        """Judge points that the actor adjusts by hand, before they are. The decision may have a refusal."""
        actor = self._unit.actor
        new = NewCredit(adjustment_id, wallet.id, actor, points)
        findings = judge_credit(self._rules, new, self._measures, self._unit.now, self._time_zone)
        decision = self._decide(findings, wallet, _Event("points.adjusted", adjustment_id, points, can_refuse=True))
        if decision.refusal is None and points > 0:
            self._measures.note_credit(actor, Credit(adjustment_id, points))
        return decision

    def customer(self, wallet: Wallet, event_type: str, *, email: bool = True, phone: bool = True) -> None:
        """Judge the e-mail address and the phone number that a customer has now, each if it was changed.

        What an import brings is remembered, and sets off no rule.
        """
        customer = wallet.profile
        sightings = self._contacts(customer.email if email else None, customer.phone if phone else None)
        now = self._unit.now
        if not self._unit.is_import:
            findings = judge_identity(self._rules, sightings, wallet.id, wallet.id, self._measures, now)
            self._decide(findings, wallet, _Event(event_type, wallet.id))
        self._measures.note_seen(sightings, SeenCustomer(wallet.id, wallet.id))

    def expect_customers(self, contacts: Iterable[tuple[str | None, str | None]]) -> None:
        """The e-mail addresses and phone numbers that `customer` is going to judge, so that they are read together."""
        for email, phone in contacts:
            self._measures.expect(self._contacts(email, phone))

    # -- what a purchase shows ---------------------------------------------------------------------------------------

    def hashed(self, kind: SightingKind, value: str | None) -> bytes | None:
        """The keyed hash of a device or a payment, which is all that is stored of it."""
        return None if value is None else keyed_hash(self._key(), kind, value)

    def planned(
        self,
        wallet: Wallet,
        *,
        occurred_at: UnixMs,
        amount: int,
        currency: str,
        base_amount: int,
        employee_id: str | None,
        location_id: str | None,
        device_id: bytes | None,
        payment_fingerprint: bytes | None,
        imported: bool = False,
        transaction_id: str = "",
        points: int = 0,
    ) -> NewPurchase:
        """A purchase as rules see it. Of one that is planned, neither the id nor the points are known."""
        employee, location = signal(employee_id), signal(location_id)
        if self._least_receipt is None or base_amount < self._least_receipt:
            location = None
        if not self._compares_values:
            device_id = payment_fingerprint = None
        sightings = sightings_of(location, amount, currency, occurred_at, device_id, payment_fingerprint)
        fact = PurchaseFact(transaction_id, wallet.id, occurred_at, base_amount, points, employee, imported)
        last = self._measures.last_purchase_at(wallet.id)
        return NewPurchase(fact, wallet.balance.lifetime_earned, last, sightings)

    def _contacts(self, email: str | None, phone: str | None) -> tuple[Sighting, ...]:
        if not self._compares_values:
            return ()
        values: tuple[tuple[SightingKind, str | None], ...] = (
            ("email", email_identity(email)),
            ("phone", phone_key(phone)),
        )
        return tuple(
            Sighting(kind, keyed_hash(self._key(), kind, value)) for kind, value in values if value is not None
        )

    def _key(self) -> bytes:
        if self._hash_key is None:
            self._hash_key = self._unit.fraud.hash_key(self._book.account_id)
        return self._hash_key

    # -- cases -------------------------------------------------------------------------------------------------------

    def _decide(self, findings: Sequence[Finding], wallet: Wallet, event: _Event) -> Decision:
        """Open cases and count hits; the cases whose rules act on the event."""
        if not findings:
            return _NO_DECISION
        acting = [(each, case) for each in findings if (case := self._case(each, wallet, event)) is not None]
        holding = tuple(case.id for each, case in acting if event.effect(each.rule.action) == "hold")
        blocking = [case for each, case in acting if event.effect(each.rule.action) == "block"]
        return Decision(holding, _refusal(blocking[0]) if blocking else None)

    def _case(self, finding: Finding, wallet: Wallet, event: _Event) -> FraudCase | None:
        """The case of a finding, if its rule acts: None for a finding that is ignored, and for a rule in shadow."""
        rule, key = finding.rule, (finding.rule.code, hash_of_key(finding))
        for _ in range(_ATTEMPTS):
            latest = self._latest(finding, key)
            step = next_step(rule, latest, self._unit.now)
            if step == "ignore":
                return None
            case = self._next_case(step, latest, finding, event.effect(rule.action))
            if case is None:
                del self._cases[key]
                continue
            self._cases[key] = case
            if rule.shadow:
                return None
            if step != "repeat":
                self._reports.append(_Report(wallet, case, finding, event))
            return case
        return None

    def _next_case(self, step: Step, latest: FraudCase | None, finding: Finding, effect: Action) -> FraudCase | None:
        """The case after a step. None when another transaction has opened or closed it at the same time."""
        now = self._unit.now
        if step == "open" or latest is None:
            case = opened(finding, self._unit.ids.new("frd"), self._book.account_id, effect, now)
            self._locked.add(case.id)
            return case if self._unit.fraud.open_case(case) else None
        if effect == "hold" and not finding.rule.shadow and not self._stays_open(latest):
            return None
        case = revealed(latest, finding, effect, now) if step == "reveal" else repeated(latest, finding, now)
        self._hits[case.id] = (case, self._hits.get(case.id, (case, 0))[1] + 1)
        return case

    def _stays_open(self, case: FraudCase) -> bool:
        """Whether a case is open, and stays so until this transaction ends: a closed case would never release points."""
        if case.id not in self._locked and self._unit.fraud.lock_open(case.id):
            self._locked.add(case.id)
        return case.id in self._locked

    def _latest(self, finding: Finding, key: CaseKey) -> FraudCase | None:
        """The latest case of a key. Those of one rule are read together for all that the command names or shows."""
        if key not in self._cases:
            keys = {key, *((key[0], each) for each in self._likely_keys(finding.rule.params))} - self._cases.keys()
            found = self._unit.fraud.latest_cases(self._book.account_id, keys)
            self._cases |= {each: found.get(each) for each in keys}
        return self._cases[key]

    def _likely_keys(self, params: Params) -> Iterator[bytes]:
        """The keys, as hashes, that further findings of a rule in this command may have."""
        if params.key_type == "customer":
            yield from (key_hash("customer", each.id) for each in self._book.wallets)
        if params.key_type in {"receipt", "value"}:
            of_receipts = params.key_type == "receipt"
            shown = (each for each in self._measures.expected if (each.kind == "receipt") == of_receipts)
            yield from (key_hash(each.kind, each.hash.hex()) for each in shown)

    # -- reporting and writing -----------------------------------------------------------------------------------------

    def report(self) -> None:
        """Emit `fraud.detected` for each case that was opened since the last report: the last events of a cause."""
        for each in self._reports:
            each.wallet.emit(_detected(each, self._unit.now))
        self._reports = []

    def write(self) -> None:
        """Store hits, what was seen with which customer, and which cases hold which lots. The book has its lots still."""
        store = self._unit.fraud
        store.add_hits(sorted(self._hits.values(), key=lambda each: each[0].id))
        store.note_seen(self._book.account_id, self._measures.noted, self._unit.now)
        store.hold(list(self._held()) if self._holding else [])

    def _held(self) -> Iterator[HeldLot]:
        for wallet in self._book.wallets:
            for lot in wallet.lots.new:
                if lot.hold_case_id is not None:
                    yield from ((case_id, lot.id) for case_id in self._holding.get(lot.transaction_id or "", ()))


def rules_in_force(unit: FraudUnit, account_id: str, program: Program) -> RuleSet:
    """The fraud rules of an account. Those that were never changed need no read."""
    if not program.changes_fraud_rules:
        return _defaults(account_id)
    return RuleSet(account_id, unit.fraud.changed_rules(account_id))


@lru_cache(maxsize=1_024)
def _defaults(account_id: str) -> RuleSet:
    return RuleSet(account_id)


def _refusal(case: FraudCase) -> Conflict:
    return Conflict(
        f"The fraud rule {case.rule_code} stopped this, and nothing was taken or credited. Look at case {case.id}, and resolve "
        "it as false_positive to let the customer go on.",
        code="blocked_by_fraud_rule",
    )


def _detected(report: _Report, now: UnixMs) -> FraudDetected:
    finding, case, event = report.finding, report.case, report.event
    effect = event.effect(finding.rule.action)
    is_refused = effect == "block"  # then there is no object, so the customer stands for it
    return FraudDetected(
        case_id=case.id,
        status="open",
        customer_id=report.wallet.id,
        customer_external_id=report.wallet.profile.external_id,
        related_customer_ids=list(finding.related_customer_ids),
        rule=FraudRule(code=finding.rule.code, id=finding.rule.id, version=finding.rule.version),
        severity=finding.rule.severity,
        score=finding.rule.score,
        trigger=FraudTrigger(
            event_id=None, type=event.type, object_id=report.wallet.id if is_refused else event.object_id
        ),
        measurement=MeasurementShown(**shown_measurement(finding.measurement)),
        evidence=[each for each in finding.evidence if not (is_refused and each == event.object_id)],
        action=effect,
        points_held=event.points if effect == "hold" else 0,
        shadow=False,
        detected_at=rfc3339(now),
    )
