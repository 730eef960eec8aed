"""Finds objects of an account by one text: an id, the end of one, the merchant's own number, or what a customer is known by."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

from loyalpro.kernel.clock import MS_PER_DAY
from loyalpro.kernel.errors import NotFound
from loyalpro.kernel.ids import Prefix, is_id
from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.kernel.record import record
from loyalpro.loyalty.customer_search import FindCustomers, find_customers
from loyalpro.loyalty.customers import GetCustomer, get_customer
from loyalpro.loyalty.entities import Customer, Transaction
from loyalpro.loyalty.recent import customers_with_tail, purchases_with_tail
from loyalpro.loyalty.transactions import GetTransaction, ListTransactions, get_transaction, list_transactions
from loyalpro.web.unit import Unit
from loyalpro.webhooks.deliveries import existing_delivery
from loyalpro.webhooks.endpoints import EndpointRef, get_endpoint
from loyalpro.webhooks.events import EventRef, get_event
from loyalpro.webhooks.recent import deliveries_with_tail, events_with_tail

Kind = Literal["customer", "transaction", "event", "delivery", "endpoint"]
KINDS: Final[Mapping[Prefix, Kind]] = {
    "cus": "customer",
    "txn": "transaction",
    "evt": "event",
    "dlv": "delivery",
    "we": "endpoint",
}
"""What is found, by the prefix of its id."""
MOST_HITS: Final = 20
MOST_LOOKED_AT: Final = 5_000
"""How many of the newest objects of a kind the end of an id is compared with."""
TAIL_AGE_MS: Final = MS_PER_DAY
"""How old an object may be that is found by the end of its id."""
_TAIL: Final = re.compile(r"(?:(?P<prefix>[a-z]{2,5})_)?\W{0,3}(?P<tail>[0-9a-hjkmnp-tv-z]{6,36})")


@record
class Find:
    """What to find. `by_name`: whether the text may also be the start of a customer's name."""

    account_id: str
    text: str
    by_name: bool = True


@record
class Hit:
    """An object that was found. `customer`, `transaction`: it, if it is one."""

    kind: Kind
    id: str
    customer: Customer | None = None
    transaction: Transaction | None = None


def find(unit: Unit, query: Find) -> list[Hit]:
    """The objects that a text names, at most `MOST_HITS`: those that an exact value names first, then by ends of ids."""
    text = query.text.strip()
    if not text:
        return []
    prefix = next((each for each in KINDS if is_id(each, text)), None)
    if prefix is not None:
        return _by_id(unit, query.account_id, KINDS[prefix], text)
    hits = {each.id: each for each in _by_value(unit, query, text)}
    for each in _by_tail(unit, query.account_id, text.lower()):
        hits.setdefault(each.id, each)
    return [*hits.values()][:MOST_HITS]


def _by_id(unit: Unit, account_id: str, kind: Kind, id_: str) -> list[Hit]:
    try:
        match kind:
            case "customer":
                return [Hit(kind, id_, customer=get_customer(unit, GetCustomer(account_id, id_)))]
            case "transaction":
                return [Hit(kind, id_, transaction=get_transaction(unit, GetTransaction(account_id, id_)))]
            case "event":
                get_event(unit, EventRef(account_id, id_))
            case "endpoint":
                get_endpoint(unit, EndpointRef(account_id, id_))
            case "delivery":
                existing_delivery(unit, account_id, id_)
    except NotFound:
        return []
    return [Hit(kind, id_)]


def _by_value(unit: Unit, query: Find, text: str) -> Iterator[Hit]:
    wanted = FindCustomers(query.account_id, text, MOST_HITS, by_name=query.by_name, by_tag=False)
    for customer in find_customers(unit, wanted):
        yield Hit("customer", customer.id, customer=customer)
    for transaction in list_transactions(unit, ListTransactions(query.account_id, None, text, None, 1)):
        yield Hit("transaction", transaction.id, transaction=transaction)


def _by_tail(unit: Unit, account_id: str, text: str) -> Iterator[Hit]:
    found = _TAIL.fullmatch(text)
    if found is None:
        return
    tail = RecentTail(account_id, found["tail"], max(0, unit.now - TAIL_AGE_MS), MOST_LOOKED_AT)
    looks: Mapping[Prefix, Callable[[Unit, RecentTail], list[str]]] = {
        "cus": customers_with_tail,
        "txn": purchases_with_tail,
        "evt": events_with_tail,
        "dlv": deliveries_with_tail,
    }
    for prefix, look in looks.items():
        if found["prefix"] in (None, prefix):
            for id_ in look(unit, tail):
                yield Hit(KINDS[prefix], id_)
