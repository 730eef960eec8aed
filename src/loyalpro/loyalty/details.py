"""Changes of a customer's details, with the event that tells them."""

from typing import Any, Final

from loyalpro.events.customer import Balance as BalanceShown
from loyalpro.events.customer import Customer as CustomerShown
from loyalpro.events.customer import CustomerUpdated
from loyalpro.events.customer import Tier as TierShown
from loyalpro.events.payload import Source
from loyalpro.events.stable_json import encode
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.loyalty.contact import email_key, phone_key
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.wallet import Wallet

BLOCKS: Final = ("earning_blocked", "redeeming_blocked")


def change_details(wallet: Wallet, changes: dict[str, Any], now: UnixMs, *, source: Source) -> list[str]:
    """Change the details of a customer that differ, with `customer.updated` if any does; the names of those."""
    before = wallet.customer
    changed = [name for name, value in changes.items() if encode(getattr(before, name)) != encode(value)]
    if not changed:
        return []
    wallet.change_details(**_with_keys(before, {name: changes[name] for name in changed}, now))
    previous = {name: _plain(getattr(before, name)) for name in changed}
    wallet.emit(
        CustomerUpdated(customer=shown(wallet.customer), previous_attributes=previous, changed=changed, source=source)
    )
    return changed


def _with_keys(before: Customer, details: dict[str, Any], now: UnixMs) -> dict[str, Any]:
    """Details with the search keys that follow from them, and the time at which e-mail or phone became other ones."""
    keys: dict[str, Any] = {}
    if "email" in details:
        keys["email_key"] = email_key(details["email"])
    if "phone" in details:
        keys["phone_key"] = phone_key(details["phone"])
    if any(getattr(before, name) != key for name, key in keys.items()):
        keys["security_changed_at"] = now
    return details | keys


def _plain(value: Any) -> Any:
    """A value as events show it."""
    return list(value) if isinstance(value, tuple) else value


def shown(customer: Customer) -> CustomerShown:
    """A customer as events show it."""
    balance = customer.balance
    return CustomerShown(
        id=customer.id,
        external_id=customer.external_id,
        email=customer.email,
        phone=customer.phone,
        name=customer.name,
        status=customer.status,
        tags=list(customer.tags),
        tier=TierShown(id=customer.tier.id, name=customer.tier.name, rank=customer.tier.rank),
        balance=BalanceShown(available=balance.available, pending=balance.pending, debt=balance.debt),
        metadata=customer.metadata,
        enrolled_at=rfc3339(customer.created_at),
        earning_blocked=customer.earning_blocked,
        redeeming_blocked=customer.redeeming_blocked,
    )
