"""Commands about customers: enroll them, change their details, and read customers, entries and lots."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from loyalpro.events.customer import CustomerCreated
from loyalpro.events.payload import Source
from loyalpro.events.points import AppliedRule
from loyalpro.kernel.errors import Conflict, NotFound, Refused
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.contact import email_key, phone_key
from loyalpro.loyalty.details import BLOCKS, change_details, shown
from loyalpro.loyalty.entities import Customer, CustomerFilter
from loyalpro.loyalty.expiry import expires_at
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.loyalty.fraud.screening import Screening
from loyalpro.loyalty.ledger import Entry, Lot
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.tiers import Tier
from loyalpro.loyalty.wallet import Cause, Credit, Earning, Wallet

MAX_METADATA_BYTES: Final = 16 * 1024
"""As JSON. `customer.updated` carries metadata twice, and with all other fields at their limits it fits into 64 KiB."""
MAX_METADATA_DEPTH: Final = 16
MAX_TAGS: Final = 50
NO_DETAILS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("external_id", "email", "email_key", "phone", "phone_key", "name", "security_changed_at")),
    "tags": (),
    "metadata": {},
}
"""The details of a customer that is deleted or merged."""
NO_STATE: Final[Mapping[str, Any]] = dict.fromkeys(
    ("tier_review_at", "tier_locked_until", "tier_lock_reason", "points_expire_at")
)
"""What does not become due for such a customer."""

_EXAMINED: Final = 1_000
"""How many customers a page examines when more than one filter has to match."""


@record
class EnrollCustomer:
    """A customer to enroll."""

    account_id: str
    external_id: str | None
    email: str | None
    phone: str | None
    name: str | None
    metadata: dict[str, Any] = field(repr=False)
    source: Source
    tags: tuple[str, ...] = ()


@record
class EnrollCustomers:
    """Customers of one account to enroll, in this order."""

    account_id: str
    customers: Sequence[EnrollCustomer]


@record
class UpdateCustomer:
    """The details to change, with the new values.

    They are `external_id`, `email`, `phone`, `name`, `tags` (a tuple), `metadata`, and the two of `BLOCKS` (bool).
    """

    account_id: str
    customer_id: str
    changes: dict[str, Any] = field(repr=False)


@record
class GetCustomer:
    """A customer to read."""

    account_id: str
    customer_id: str


@record
class ListCustomers:
    """Active customers to read, newest first: those before `before_id` that match every filter."""

    account_id: str
    wanted: CustomerFilter
    before_id: str | None
    limit: int


@record
class CustomerPage:
    """Customers, and the `before_id` of the next page; None on the last page."""

    customers: list[Customer]
    next_before_id: str | None


@record
class ListOfCustomer:
    """Entries or lots of a customer to read, newest first, before `before_id`. `only_open`: lots that hold points."""

    account_id: str
    customer_id: str
    before_id: str | None
    limit: int
    only_open: bool = False


def enroll_customer(unit: FraudUnit, command: EnrollCustomer) -> Customer:
    """Store a new customer in the lowest tier. Emits `customer.created`, and `points.earned` if enrolling earns points.

    Fraud rules judge its e-mail address and its phone number.

    Raises `Conflict` `customer_exists` when another customer of the account has the external id.
    """
    [outcome] = _enroll(unit, command.account_id, [command])
    if isinstance(outcome, Refused):
        raise outcome
    unit.audit(command.account_id, "customer.created", outcome.id)
    return outcome


def enroll_customers(unit: FraudUnit, command: EnrollCustomers) -> list[Customer | Refused]:
    """`enroll_customer` for each of them, in a few statements.

    The result has an outcome for each customer, in their order. A refused one changes nothing, and does not stop the others.
    """
    return _enroll(unit, command.account_id, command.customers)


def update_customer(unit: FraudUnit, command: UpdateCustomer) -> Customer:
    """Change details. Emits `customer.updated` with the values before; emits and changes nothing when all are equal.

    Values are compared as JSON, because `1` and `true` are equal in Python and differ in JSON. Raises `NotFound`
    `customer_not_found`, and `Conflict` `customer_exists` when another customer of the account has the external id.
    """
    book = Book(unit, command.account_id, ids=[command.customer_id])
    wallet = book.wallet(command.customer_id)
    if wallet is None:
        raise unknown_customer(command.customer_id)
    changed = change_details(wallet, command.changes, unit.now, source="api")
    _screen(unit, book, wallet, changed)
    if not book.write():
        raise _taken(wallet.customer.external_id)
    if changed:
        blocks = {name: command.changes[name] for name in changed if name in BLOCKS}
        unit.audit(command.account_id, "customer.updated", wallet.id, {"fields": changed, **blocks})
    return wallet.customer


def get_customer(unit: LoyaltyUnit, command: GetCustomer) -> Customer:
    """One customer, also one that is deleted or merged. Raises `NotFound` `customer_not_found`."""
    customer = unit.customers.get(command.account_id, command.customer_id)
    if customer is None:
        raise unknown_customer(command.customer_id)
    return customer


def list_customers(unit: LoyaltyUnit, command: ListCustomers) -> CustomerPage:
    """Active customers, newest first.

    One filter has an index, and finds exactly its customers. With several, a page examines at most 1,000 customers that match
    the first of them, so it may have fewer customers than `limit` and still be followed by another page.
    """
    wanted, limit = command.wanted, command.limit
    most = _EXAMINED if wanted.is_combined else limit + 1
    examined = unit.customers.candidates(command.account_id, wanted, command.before_id, most)
    found = unit.customers.matching(command.account_id, examined, wanted, limit + 1) if examined else []
    if len(found) > limit:
        return CustomerPage(found[:limit], found[limit - 1].id)
    return CustomerPage(found, examined[-1] if len(examined) == most else None)


def list_entries(unit: LoyaltyUnit, command: ListOfCustomer) -> list[Entry]:
    """A customer's ledger entries, newest first. Raises `NotFound` `customer_not_found`."""
    customer = get_customer(unit, GetCustomer(command.account_id, command.customer_id))
    return unit.ledger.list_entries(customer.id, command.before_id, command.limit)


def list_lots(unit: LoyaltyUnit, command: ListOfCustomer) -> list[Lot]:
    """A customer's lots, newest first. Raises `NotFound` `customer_not_found`."""
    customer = get_customer(unit, GetCustomer(command.account_id, command.customer_id))
    return unit.ledger.list_lots(customer.id, command.before_id, command.limit, only_open=command.only_open)


def unknown_customer(customer_id: str, *, param: str = "id") -> NotFound:
    """The error for a customer that is not there, or is deleted or merged."""
    return NotFound(f"There is no customer {customer_id}.", code="customer_not_found", param=param)


def _enroll(unit: FraudUnit, account_id: str, commands: Sequence[EnrollCustomer]) -> list[Customer | Refused]:
    """Store the customers whose external ids are free, and then their events and points."""
    book = Book(unit, account_id)
    screening = Screening(unit, book)
    screening.expect_customers((each.email, each.phone) for each in commands)
    made = [_new_customer(unit, each, book.program.tiers[0]) for each in commands]
    stored = unit.customers.insert(made) if made else set()
    wallets = {each.id: book.open(each) for each in made if each.id in stored}
    for command, customer in zip(commands, made, strict=True):
        if (wallet := wallets.get(customer.id)) is not None:
            wallet.emit(CustomerCreated(customer=shown(customer), source=command.source))
            _give_enrollment_points(unit, book, wallet, command.source)
            screening.customer(wallet, "customer.created")
            screening.report()
    screening.write()
    book.write()
    return [wallets[each.id].customer if each.id in wallets else _taken(each.external_id) for each in made]


def _screen(unit: FraudUnit, book: Book, wallet: Wallet, changed: Sequence[str]) -> None:
    """Have fraud rules judge the e-mail address and the phone number, if they were changed."""
    email, phone = "email" in changed, "phone" in changed
    if email or phone:
        screening = Screening(unit, book)
        screening.customer(wallet, "customer.updated", email=email, phone=phone)
        screening.report()
        screening.write()


def _give_enrollment_points(unit: LoyaltyUnit, book: Book, wallet: Wallet, source: Source) -> None:
    """What the program gives for enrolling. The points are active at once: no purchase stands behind them."""
    rules, now = book.program.rules, unit.now
    points = rules.earning.enrollment_points
    if points:
        rule: AppliedRule = {"id": "enrollment", "name": "Enrollment", "points": points}
        earning = Earning((rule,), "promotion", source=source, counts_toward_tier=True)
        credit = Credit(points, expires_at(rules.expiry, now, rules.time_zone))
        wallet.earn(credit, earning, Cause("customer", wallet.id, unit.actor, now))
        book.tiers.upgrade(wallet)


def _new_customer(unit: LoyaltyUnit, command: EnrollCustomer, tier: Tier) -> Customer:
    return Customer(
        id=unit.ids.new("cus"),
        account_id=command.account_id,
        external_id=command.external_id,
        email=command.email,
        phone=command.phone,
        name=command.name,
        metadata=command.metadata,
        tags=command.tags,
        tier=tier,
        tier_since=unit.now,
        email_key=email_key(command.email),
        phone_key=phone_key(command.phone),
        created_at=unit.now,
        updated_at=unit.now,
    )


def _taken(external_id: str | None) -> Conflict:
    return Conflict(
        f"Another customer has external_id {external_id!r}; GET /v1/customers?external_id= finds it.",
        code="customer_exists",
        param="external_id",
    )
