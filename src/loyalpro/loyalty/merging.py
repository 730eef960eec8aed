"""Merges a customer into another one: points, purchases, days and details move, and the first one ends."""

from typing import Any, Final

from loyalpro.events.customer import CustomerDeleted
from loyalpro.events.stable_json import require_stable
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.customers import (
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    MAX_TAGS,
    NO_DETAILS,
    NO_STATE,
    unknown_customer,
)
from loyalpro.loyalty.details import BLOCKS, change_details
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.redemption_book import cancel_reservations
from loyalpro.loyalty.wallet import Cause, Wallet

_TAKEN_OVER: Final = ("external_id", "email", "phone", "name")


@record
class MergeCustomer:
    """A customer to merge into another one."""

    account_id: str
    customer_id: str
    into_id: str


def merge_customer(unit: LoyaltyUnit, command: MergeCustomer) -> Customer:
    """Move everything of a customer to another one, which is returned; the first one ends as `merged`, without details.

    Emits, for the first customer, `points.adjusted` and `customer.deleted`; for the other one, `points.adjusted`,
    `customer.updated` if it takes over details, and `customer.tier_changed` if its tier rises. Raises `InvalidInput`
    `same_customer`, `too_many_tags` or `too_large`, and `NotFound` `customer_not_found`.
    """
    if command.customer_id == command.into_id:
        raise InvalidInput("A customer cannot be merged into itself.", code="same_customer", param="into")
    book = Book(unit, command.account_id, ids=[command.customer_id, command.into_id], with_lots=True)
    gone, into = book.wallet(command.customer_id), book.wallet(command.into_id)
    if gone is None:
        raise unknown_customer(command.customer_id)
    if into is None:
        raise unknown_customer(command.into_id, param="into")
    cancel_reservations(unit, book, gone.id, "customer_merged")
    ended = gone.customer
    _move_points(unit, gone, into)
    _end(unit, gone, into.id)
    _take_over(ended, into, unit.now)
    unit.customer_moves.move(gone.id, into.id)
    _keep_tier(book, ended, into)
    book.write()
    unit.audit(command.account_id, "customer.merged", gone.id)
    return into.customer


def _move_points(unit: LoyaltyUnit, gone: Wallet, into: Wallet) -> None:
    cause = Cause("customer", gone.id, unit.actor, unit.now)
    into.move_in(gone.move_out(cause), cause)
    into.days.arrive(gone.days)


def _end(unit: LoyaltyUnit, gone: Wallet, into_id: str) -> None:
    """Remove the details of the merged customer, and tell receivers where it is now. Its external id is free again."""
    before = gone.customer
    gone.change_details(**NO_DETAILS, status="merged", merged_into_id=into_id)
    gone.change_state(**NO_STATE)
    gone.emit(
        CustomerDeleted(
            customer_id=before.id,
            customer_external_id=before.external_id,
            external_id=before.external_id,
            deleted_at=rfc3339(unit.now),
            reason="merged",
            erased=False,
            points_forfeited=0,
            merged_into=into_id,
        )
    )


def _take_over(ended: Customer, into: Wallet, now: UnixMs) -> None:
    """Details, dates and blocks of the merged customer, as far as the other one is to have them."""
    before = into.customer
    if changed_at := _latest(ended.security_changed_at, before.security_changed_at):
        into.change_details(security_changed_at=changed_at)
    into.change_state(points_expire_at=_latest(ended.points_expire_at, before.points_expire_at))
    for purchased_at in (ended.first_purchase_at, ended.last_purchase_at):
        if purchased_at is not None:
            into.note_purchase(purchased_at)
    change_details(into, united_details(ended, before), now, source="api")


def _keep_tier(book: Book, ended: Customer, into: Wallet) -> None:
    """The higher tier stays, with its lock, unless what both have earned reaches a higher one. The days are moved already."""
    book.tiers.keep_higher(into, ended.tier)
    if into.profile.tier.id == ended.tier.id and ended.tier_locked_until is not None:
        names = ("tier_review_at", "tier_locked_until", "tier_lock_reason")
        into.change_state(**{name: getattr(ended, name) for name in names})


def united_details(ended: Customer, into: Customer) -> dict[str, Any]:
    """The details of a customer into which another one is merged.

    It keeps its own, and takes over an external id, an e-mail, a phone, a name and metadata fields that it does not have; the
    tags of both are united, and a block of either stays. Raises `InvalidInput` when these are more than fit.
    """
    details = {name: getattr(ended, name) for name in _TAKEN_OVER if getattr(into, name) is None}
    tags = tuple(dict.fromkeys((*into.tags, *ended.tags)))
    if len(tags) > MAX_TAGS:
        raise InvalidInput(
            f"The two customers have {len(tags)} different tags, {MAX_TAGS} is the most; remove some first.",
            code="too_many_tags",
            param="into",
        )
    metadata = into.metadata | {name: value for name, value in ended.metadata.items() if name not in into.metadata}
    require_stable(metadata, param="metadata", max_depth=MAX_METADATA_DEPTH, max_bytes=MAX_METADATA_BYTES)
    blocks = {name: getattr(ended, name) or getattr(into, name) for name in BLOCKS}
    return details | {"tags": tags, "metadata": metadata} | blocks


def _latest(*instants: UnixMs | None) -> UnixMs | None:
    return max((each for each in instants if each is not None), default=None)
