"""E-mail addresses and phone numbers as keys: to find customers by, and to recognize one value that several customers have.

A search key is stored with the customer. An identity key is never stored as it is: only `keyed_hash` of it is.
"""

import hmac
from hashlib import sha256
from typing import Final

HASH_KEY_BYTES: Final = 32
"""The length of an account's key for `keyed_hash`."""

_WITHOUT_DOTS: Final = "gmail.com"


def email_key(email: str | None) -> str | None:
    """An address without blanks around it, in lower case; None for an absent or blank one."""
    key = (email or "").strip().lower()
    return key or None


def phone_key(phone: str | None) -> str | None:
    """The ASCII digits of a number, after a `+` if it begins with one; None for a number without digits."""
    if phone is None:
        return None
    digits = "".join(str(int(each)) for each in phone if each.isdecimal())
    plus = "+" if phone.lstrip().startswith("+") else ""
    return plus + digits if digits else None


def email_identity(email: str | None) -> str | None:
    """The mailbox that an address leads to, as far as that is known: `email_key` without a `+tag`, and without dots at Gmail.

    A local part that would be empty without its tag or its dots stays as it is.
    """
    key = email_key(email)
    if key is None:
        return None
    local, at, domain = key.rpartition("@")
    if not at:
        return key
    mailbox = local.partition("+")[0] or local
    if domain == _WITHOUT_DOTS:
        mailbox = mailbox.replace(".", "") or mailbox
    return f"{mailbox}@{domain}"


def keyed_hash(key: bytes, kind: str, value: str) -> bytes:
    """32 bytes that stand for a value of a kind, such as a device: equal for equal values, and useless without the key."""
    return hmac.digest(key, f"{kind}\0{value}".encode(), sha256)
