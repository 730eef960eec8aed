"""Finds customers by one text: an id, the merchant's own id, an e-mail address, a phone number, a tag, the start of a name."""

import string
from collections.abc import Iterator
from typing import Final

from loyalpro.kernel.ids import is_id
from loyalpro.kernel.record import record
from loyalpro.loyalty.contact import email_key, phone_key
from loyalpro.loyalty.entities import Customer, CustomerFilter
from loyalpro.loyalty.ports import LoyaltyUnit

_FEWEST_DIGITS: Final = 5
"""Fewer digits are not looked up as a phone number."""
_ASCII_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@record
class FindCustomers:
    """The customers to find. `by_name`, `by_tag`: whether the text may also be the start of a name, or a tag."""

    account_id: str
    text: str
    limit: int
    by_name: bool = True
    by_tag: bool = True


def find_customers(unit: LoyaltyUnit, query: FindCustomers) -> list[Customer]:
    """Active customers, those that an exact value names first, then those with the tag, then by name.

    A customer that is named by its id is found also when it is deleted or merged.
    """
    text = query.text.strip()
    if not text:
        return []
    if is_id("cus", text):
        named = unit.customers.get(query.account_id, text)
        return [] if named is None else [named]
    ids = [*dict.fromkeys(_ids(unit, query, text))][: query.limit]
    if not ids:
        return []
    found = {each.id: each for each in unit.customers.matching(query.account_id, ids, CustomerFilter(), query.limit)}
    return [found[id_] for id_ in ids if id_ in found]


def name_starts(text: str) -> list[str]:
    """What a name in lower case may begin with when it begins with this text in whatever case.

    A database may change the letters of ASCII only, so other letters are looked for as they are, small, and capital.
    """
    forms = (text.lower(), text, text.title(), text.upper())
    return [*dict.fromkeys(each.translate(_ASCII_LOWER) for each in forms)]


def _ids(unit: LoyaltyUnit, query: FindCustomers, text: str) -> Iterator[str]:
    account_id, limit = query.account_id, query.limit
    yield from unit.customers.ids_of(account_id, [text])
    if "@" in text:
        yield from unit.customers.candidates(account_id, CustomerFilter(email_key=email_key(text)), None, limit)
    for key in _phone_keys(text):
        yield from unit.customers.candidates(account_id, CustomerFilter(phone_key=key), None, limit)
    if query.by_tag:
        yield from unit.customers.candidates(account_id, CustomerFilter(tag=text), None, limit)
    if query.by_name:
        yield from unit.customers.named(account_id, name_starts(text), limit)


def _phone_keys(text: str) -> list[str]:
    """The keys of a phone number, with a `+` and without; none for a text that is no number."""
    if any(each.isalpha() or each == "@" for each in text):
        return []
    key = phone_key(text)
    digits = (key or "").removeprefix("+")
    return [f"+{digits}", digits] if len(digits) >= _FEWEST_DIGITS else []
