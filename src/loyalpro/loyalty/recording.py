"""Records purchases, each once and with the points that it earns. One purchase and a batch of them are the same command.

What all purchases of a command need is read in a few statements; each is decided in memory, as if it had come alone; all
changes are written at once.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final, Literal

from loyalpro.events.transaction import Item, TransactionCompleted
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import Conflict, NotFound, Refused
from loyalpro.kernel.origin import Origin
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.entities import Transaction, TransactionSource
from loyalpro.loyalty.expiry import activates_at, day_of, expires_at
from loyalpro.loyalty.fraud.measure import NewPurchase as JudgedPurchase
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.loyalty.fraud.screening import Screening
from loyalpro.loyalty.orders import Order, check, time_of
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.pricing import Earner, Priced, base_amount, price
from loyalpro.loyalty.program import Program
from loyalpro.loyalty.redemption_book import named_redemptions
from loyalpro.loyalty.transactions import shown
from loyalpro.loyalty.wallet import Cause, Credit, Earning, Wallet

_COMPARED: Final = (
    *("amount", "currency", "tax_amount", "shipping_amount", "tip_amount", "gift_card_amount"),
    *("points_discount_amount", "items"),
)
"""The fields in which two purchases with one external id must not differ, beside the customer and the time."""


@record
class NewPurchase:
    """A purchase to record. Exactly one of the two customer ids is given. Amounts are in minor units of `currency`.

    `earn`: by the rules of the program, nothing, or the `points_given`. `origin`: its request; the purchases of one database
    transaction may come from several.
    """

    customer_id: str | None
    customer_external_id: str | None
    external_id: str | None
    amount: int
    currency: str
    occurred_at: UnixMs | None
    items: list[Item]
    channel: str | None
    location_id: str | None
    employee_id: str | None
    metadata: dict[str, Any] = field(repr=False)
    origin: Origin | None = None
    tax_amount: int = 0
    shipping_amount: int = 0
    tip_amount: int = 0
    gift_card_amount: int = 0
    points_discount_amount: int = 0
    redemption_ids: tuple[str, ...] = ()
    device_id: str | None = field(default=None, repr=False)
    payment_fingerprint: str | None = field(default=None, repr=False)
    source: TransactionSource = "api"
    earn: Literal["rules", "none", "given"] = "rules"
    points_given: int = 0

    @property
    def order(self) -> Order:
        """What is paid, as it is priced."""
        return Order(
            amount=self.amount,
            currency=self.currency,
            tax_amount=self.tax_amount,
            shipping_amount=self.shipping_amount,
            tip_amount=self.tip_amount,
            gift_card_amount=self.gift_card_amount,
            items=self.items,
        )


@record
class RecordPurchases:
    """Purchases of one account to record, in this order."""

    account_id: str
    purchases: Sequence[NewPurchase]


@record
class Purchase:
    """A recorded purchase; `replayed` when it had been recorded before and nothing was changed."""

    transaction: Transaction
    replayed: bool


def record_purchases(unit: FraudUnit, command: RecordPurchases) -> list[Purchase | Refused]:
    """Record purchases. Each emits `transaction.completed`, `points.earned` if it earns any, `fraud.detected` for a new case.

    The result has an outcome for each purchase, in their order. A refused purchase changes nothing, and does not stop the
    others.
    """
    recording = _Recording(unit, command)
    outcomes = [recording.outcome(each) for each in command.purchases]
    recording.write()
    return outcomes


class _Recording:
    """The purchases of one command, against the customers and the purchases that they name."""

    def __init__(self, unit: FraudUnit, command: RecordPurchases) -> None:
        purchases, account_id = command.purchases, command.account_id
        self.book = Book(
            unit,
            account_id,
            ids={each.customer_id for each in purchases if each.customer_id is not None},
            external_ids={each.customer_external_id for each in purchases if each.customer_external_id is not None},
        )
        self._unit = unit
        self._program = self.book.program
        external_ids = {each.external_id for each in purchases if each.external_id}
        known = unit.transactions.by_external_ids(account_id, external_ids) if external_ids else []
        self._known = {each.external_id: each for each in known}
        instants = [each.occurred_at or unit.now for each in purchases]
        self._campaigns = CampaignsInForce(unit, account_id, instants, [each.id for each in self.book.wallets])
        named = {id_ for each in purchases for id_ in each.redemption_ids}
        self._redemptions = named_redemptions(unit, self.book, named)
        self._screening = Screening(unit, self.book, lambda: self._planned(purchases))

    def outcome(self, purchase: NewPurchase) -> Purchase | Refused:
        """Record one purchase, or tell why not."""
        try:
            return self._record(purchase)
        except Refused as refusal:
            return refusal

    def write(self) -> None:
        """Store all changes."""
        self._screening.write()
        self.book.write()
        self._redemptions.write()
        self._campaigns.write()

    def _record(self, purchase: NewPurchase) -> Purchase:
        """Every check that may refuse the purchase comes before the first change."""
        self._unit.origin = purchase.origin
        self._unit.is_import = purchase.source == "import"
        self._program.require_currency(purchase.currency)
        occurred_at = time_of(purchase.occurred_at, self._unit.now)
        order = purchase.order
        check(order)
        wallet = self._wallet(purchase)
        known = self._known.get(purchase.external_id) if purchase.external_id else None
        if known is not None:
            return _replayed(known, purchase, wallet.id)
        for redemption_id in purchase.redemption_ids:
            self._redemptions.require_capturable(redemption_id, wallet)
        priced = self._price(purchase, order, wallet, occurred_at)
        wallet.require_capacity(priced.points)
        transaction = self._transaction(purchase, wallet.id, priced, occurred_at)
        self._known[transaction.external_id] = transaction
        self.book.add_transaction(transaction)
        for redemption_id in purchase.redemption_ids:
            self._redemptions.capture(redemption_id, transaction.id)
        decision = self._screening.purchase(wallet, transaction)
        self._complete(purchase, transaction, wallet, priced, decision.hold_case_id)
        self._screening.report()
        return Purchase(transaction, replayed=False)

    def _planned(self, purchases: Sequence[NewPurchase]) -> Iterator[JudgedPurchase]:
        """The purchases as fraud rules see them before their points are known, without those that will be refused."""
        for each in purchases:
            try:
                wallet = self._wallet(each)
                base = base_amount(each.amount, each.currency, self._program.rules)
            except Refused:
                continue
            yield self._screening.planned(
                wallet,
                occurred_at=each.occurred_at or self._unit.now,
                amount=each.amount,
                currency=each.currency,
                base_amount=base,
                employee_id=each.employee_id,
                location_id=each.location_id,
                device_id=self._screening.hashed("device", each.device_id),
                payment_fingerprint=self._screening.hashed("payment", each.payment_fingerprint),
            )

    def _complete(
        self,
        purchase: NewPurchase,
        transaction: Transaction,
        wallet: Wallet,
        priced: Priced,
        hold_case_id: str | None,
    ) -> None:
        """Emit the purchase and credit what it earns. Points that a case holds count toward nothing until they are released."""
        wallet.note_purchase(transaction.occurred_at)
        wallet.days.add(
            day_of(transaction.occurred_at, self._program.rules.time_zone),
            purchases=1,
            spend=transaction.base_amount,
            points_qualifying=0 if hold_case_id else priced.points,
        )
        wallet.emit(
            TransactionCompleted(
                customer_id=wallet.id,
                customer_external_id=wallet.profile.external_id,
                transaction=shown(transaction),
                points_earned=priced.points,
                redemption_ids=list(purchase.redemption_ids),
                source=transaction.source,
            )
        )
        self._campaigns.note_uses(wallet.id, priced.campaign_ids)
        if priced.points:
            cause = Cause("transaction", transaction.id, self._unit.actor, transaction.occurred_at)
            wallet.earn(_credit(self._program, transaction, hold_case_id), _earning(transaction, priced), cause)
        self.book.tiers.upgrade(wallet)

    def _price(self, purchase: NewPurchase, order: Order, wallet: Wallet, occurred_at: UnixMs) -> Priced:
        """What the purchase earns; nothing for a customer whose earning is blocked."""
        customer = wallet.profile
        earner = Earner(
            customer.tier, customer.tags, self._campaigns.uses(wallet.id), self._earned_on(wallet, occurred_at)
        )
        priced = price(order, self._program.rules, earner, self._campaigns.running, occurred_at)
        if customer.earning_blocked or purchase.earn == "none":
            return replace(priced, points=0, rules=(), campaign_ids=())
        if purchase.earn == "given":
            return replace(priced, points=purchase.points_given, rules=(), campaign_ids=())
        return priced

    def _earned_on(self, wallet: Wallet, occurred_at: UnixMs) -> int:
        """What the customer has earned on the same local day, if the program limits it."""
        rules = self._program.rules
        if rules.earning.max_points_per_day is None:
            return 0
        return self.book.earned_on(wallet, day_of(occurred_at, rules.time_zone))

    def _wallet(self, purchase: NewPurchase) -> Wallet:
        """The wallet of the customer that the purchase names."""
        if purchase.customer_id is not None:
            wallet, param = self.book.wallet(purchase.customer_id), "customer_id"
        else:
            wallet = self.book.wallet_by_external_id(purchase.customer_external_id or "")
            param = "customer_external_id"
        if wallet is None:
            raise NotFound(
                f"There is no customer with this {param}; enroll it first.", code="customer_not_found", param=param
            )
        return wallet

    def _transaction(self, purchase: NewPurchase, customer_id: str, priced: Priced, occurred_at: UnixMs) -> Transaction:
        return Transaction(
            id=self._unit.ids.new("txn"),
            account_id=self.book.account_id,
            customer_id=customer_id,
            external_id=purchase.external_id,
            currency=purchase.currency,
            amount=purchase.amount,
            items=purchase.items,
            channel=purchase.channel,
            location_id=purchase.location_id,
            employee_id=purchase.employee_id,
            metadata=purchase.metadata,
            points_earned=priced.points,
            occurred_at=occurred_at,
            created_at=self._unit.now,
            actor=self._unit.actor,
            tax_amount=purchase.tax_amount,
            shipping_amount=purchase.shipping_amount,
            tip_amount=purchase.tip_amount,
            gift_card_amount=purchase.gift_card_amount,
            points_discount_amount=purchase.points_discount_amount,
            eligible_amount=priced.eligible_amount,
            base_amount=priced.base_amount,
            program_version=self._program.version,
            priced=priced.frozen,
            source=purchase.source,
            device_id=self._screening.hashed("device", purchase.device_id),
            payment_fingerprint=self._screening.hashed("payment", purchase.payment_fingerprint),
        )


class CampaignsInForce:
    """The campaigns that may count for some orders, and how often customers have used those that have a limit."""

    def __init__(
        self, unit: LoyaltyUnit, account_id: str, instants: Sequence[UnixMs], customer_ids: Sequence[str]
    ) -> None:
        self.running = unit.campaigns.during(account_id, min(instants), max(instants)) if instants else []
        self._unit = unit
        self._limited = [each.id for each in self.running if each.limit_per_customer is not None]
        read = self._limited and customer_ids
        self._uses = unit.campaigns.uses(customer_ids, self._limited) if read else {}
        self._added: Counter[tuple[str, str]] = Counter()

    def uses(self, customer_id: str) -> Mapping[str, int]:
        """How often a customer has used each campaign that has a limit."""
        return self._uses.get(customer_id, {})

    def note_uses(self, customer_id: str, campaign_ids: Sequence[str]) -> None:
        """Count the use of campaigns that have a limit."""
        for campaign_id in set(campaign_ids).intersection(self._limited):
            uses = self._uses.setdefault(customer_id, {})
            uses[campaign_id] = uses.get(campaign_id, 0) + 1
            self._added[campaign_id, customer_id] += 1

    def write(self) -> None:
        """Store the uses that were counted."""
        self._unit.campaigns.add_uses(self._added)


def _replayed(known: Transaction, purchase: NewPurchase, customer_id: str) -> Purchase:
    """The purchase that has this external id already, if it is the same one; a different one is a conflict."""
    differing = [name for name in _COMPARED if getattr(known, name) != getattr(purchase, name)]
    if known.customer_id != customer_id:
        differing.insert(0, "customer_id")
    if purchase.occurred_at not in (None, known.occurred_at):
        differing.append("occurred_at")
    if differing:
        raise Conflict(
            f"external_id {known.external_id!r} belongs to {known.id}, which differs in {', '.join(differing)}."
            " Send each purchase with an external_id of its own.",
            code="transaction_exists",
            param="external_id",
        )
    return Purchase(known, replayed=True)


def _credit(program: Program, transaction: Transaction, hold_case_id: str | None) -> Credit:
    """Expiry is counted from when the purchase happened, not from when it was recorded. Held points have no other date."""
    rules, occurred_at = program.rules, transaction.occurred_at
    active_at = None if hold_case_id else activates_at(rules.pending_days, occurred_at, rules.time_zone)
    return Credit(
        points=transaction.points_earned,
        expires_at=expires_at(rules.expiry, occurred_at, rules.time_zone),
        is_pending=bool(rules.pending_days or hold_case_id),
        activates_at=active_at,
        transaction_id=transaction.id,
        hold_case_id=hold_case_id,
    )


def _earning(transaction: Transaction, priced: Priced) -> Earning:
    return Earning(rules=priced.rules, transaction_external_id=transaction.external_id, source=transaction.source)
