"""Commands about redemptions: exchange points, reserve them, and what becomes of a reservation."""

from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Final

from loyalpro.events.points import Reward as RewardShown
from loyalpro.kernel.errors import Conflict, InvalidInput, LockTaken, NotFound, Refused
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.customers import unknown_customer
from loyalpro.loyalty.entities import Redemption, Reward, Transaction
from loyalpro.loyalty.expiry import day_of
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.loyalty.fraud.screening import Screening
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.redemption_book import TIMED_OUT, PutBack, RedemptionBook, expire_overdue, named_redemptions
from loyalpro.loyalty.redemption_moves import is_overdue, is_to_be_made
from loyalpro.loyalty.rewards import (
    Order,
    existing_reward,
    out_of_stock,
    reward_not_available,
    why_not,
    why_not_for,
)
from loyalpro.loyalty.wallet import Cause, Redeemed, Wallet

CODE_LETTERS: Final = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
"""Digits and capital letters, without those that are read as another one: 0, 1, I, L and O."""
_CODE_LENGTHS: Final = (4, 4, 4, 8)
"""The lengths of the codes that a redemption tries in turn: a short one, unless three of them are in use."""


@record
class RedeemPoints:
    """Points to exchange. Exactly one of the two customer ids is given, and exactly one of `points` and `reward_id`.

    `reserve_ms`: how long they are reserved; None to redeem them at once. `transaction_id`: the purchase that they pay for.
    `amount` and `currency`: the order, in minor units, for a reward that depends on it; `currency` None is the program's.
    """

    account_id: str
    customer_id: str | None
    customer_external_id: str | None
    points: int | None
    reward_id: str | None
    reserve_ms: int | None
    transaction_id: str | None
    external_id: str | None
    amount: int | None
    currency: str | None


@record
class MadeRedemption:
    """A redemption; `replayed` when it had been made before and nothing was changed."""

    redemption: Redemption
    replayed: bool


@record
class RedemptionRef:
    """A redemption to read or to cancel."""

    account_id: str
    redemption_id: str


@record
class CaptureRedemption:
    """A reservation to redeem. `transaction_id`: the purchase that it pays for."""

    account_id: str
    redemption_id: str
    transaction_id: str | None


@record
class ReverseRedemption:
    """A redemption whose points come back. `points` None: all that did not come back yet."""

    account_id: str
    redemption_id: str
    points: int | None


@record
class ExpireReservations:
    """Reservations of one account whose time may have passed."""

    account_id: str
    redemption_ids: Collection[str]


@record
class ListRedemptions:
    """Redemptions to read, newest first: those before `before_id` that match every filter."""

    account_id: str
    customer_id: str | None
    transaction_id: str | None
    external_id: str | None
    code: str | None
    before_id: str | None
    limit: int


def redeem_points(unit: FraudUnit, command: RedeemPoints) -> MadeRedemption | Refused:
    """Take points for a reward, or just so many, at once or as a reservation. Emits `points.redeemed`.

    Emits `fraud.detected` for a new case. Returns `blocked_by_fraud_rule` when a fraud rule stops it: then no point is taken,
    and the case is to be committed.

    Raises `NotFound` for a customer, a reward or a purchase that does not exist; `InvalidInput` `insufficient_points` and
    `reward_not_available`; `Conflict` `redeeming_blocked`, and `redemption_exists` for an external id of another redemption.
    """
    book = Book(
        unit,
        command.account_id,
        ids=[command.customer_id] if command.customer_id else [],
        external_ids=[command.customer_external_id] if command.customer_external_id else [],
        with_lots=True,
    )
    wallet = _wallet(book, command)
    if command.external_id and (known := unit.redemptions.by_external_id(command.account_id, command.external_id)):
        return MadeRedemption(_replayed(known, command, wallet.id), replayed=True)
    if wallet.customer.redeeming_blocked:
        raise Conflict(
            "Redeeming is blocked for this customer; PATCH /v1/customers/{id} with redeeming_blocked false allows it again.",
            code="redeeming_blocked",
        )
    expire_overdue(unit, book)
    transaction = _transaction(unit, command.account_id, command.transaction_id, wallet.id)
    reward = _reward(unit, book, command, wallet, transaction)
    redemption = _redemption(unit, command, wallet, reward, book.program.rules.time_zone)
    wallet.require_available(redemption.points)
    screening = Screening(unit, book)
    decision = screening.redemption(wallet, redemption.id, redemption.points)
    if decision.refusal is None:
        _take_from_stock(unit, reward)
        _post(unit, wallet, redemption)
    screening.report()
    screening.write()
    if decision.refusal is not None:
        book.write()
        return decision.refusal
    if not unit.redemptions.insert(redemption):
        raise _exists(command.external_id, "that another request made")
    book.write()
    unit.audit(command.account_id, "redemption.created", redemption.id)
    return MadeRedemption(redemption, replayed=False)


def capture_redemption(unit: LoyaltyUnit, command: CaptureRedemption) -> Redemption:
    """Redeem what is reserved, and link it to a purchase if one is named. No event: its points had left before.

    Raises `NotFound`; `Conflict` `redemption_not_reserved`, and `redemption_has_transaction` when another purchase has it.
    """
    book, opened, redemption = _open(unit, command.account_id, command.redemption_id)
    transaction = _transaction(unit, command.account_id, command.transaction_id, redemption.customer_id)
    captured = opened.capture(redemption.id, None if transaction is None else transaction.id)
    return _written(unit, book, opened, captured, "redemption.captured")


def cancel_redemption(unit: LoyaltyUnit, command: RedemptionRef) -> Redemption:
    """Return the points of a reservation. Emits `points.adjusted`. Raises `NotFound`; `Conflict` `redemption_not_reserved`."""
    book, opened, redemption = _open(unit, command.account_id, command.redemption_id)
    if is_to_be_made("cancel", redemption, unit.now):
        redemption = opened.end(redemption.id, "cancel", PutBack("reservation_canceled", unit.actor))
    return _written(unit, book, opened, redemption, "redemption.canceled")


def reverse_redemption(unit: LoyaltyUnit, command: ReverseRedemption) -> Redemption:
    """Return redeemed points, or a part of them. Emits `points.adjusted`.

    To return everything a second time changes nothing. Raises `NotFound`; `Conflict` `redemption_not_redeemed`; `InvalidInput`
    `reversal_exceeds_redemption` for more than what did not come back yet.
    """
    book, opened, redemption = _open(unit, command.account_id, command.redemption_id)
    if is_to_be_made("reverse", redemption, unit.now) or command.points not in (None, redemption.points):
        points = _reversed_points(redemption, command.points)
        redemption = opened.put_back(redemption.id, points, PutBack("redemption_reversed", unit.actor))
    return _written(unit, book, opened, redemption, "redemption.reversed")


def get_redemption(unit: LoyaltyUnit, command: RedemptionRef) -> Redemption:
    """One redemption. Raises `NotFound`."""
    return _existing(unit, command.account_id, command.redemption_id)


def list_redemptions(unit: LoyaltyUnit, command: ListRedemptions) -> list[Redemption]:
    """Redemptions, newest first."""
    return unit.redemptions.list_newest(
        command.account_id,
        command.before_id,
        command.limit,
        customer_id=command.customer_id,
        transaction_id=command.transaction_id,
        external_id=command.external_id,
        code=command.code,
    )


def expire_reservations(unit: LoyaltyUnit, command: ExpireReservations) -> int:
    """Return the points of those of these reservations whose time has passed; how many. Emits `points.adjusted` for each.

    It may run again, and in several processes: what has been captured, canceled or expired meanwhile is left alone.
    """
    named = unit.redemptions.by_ids(command.account_id, command.redemption_ids) if command.redemption_ids else []
    book = Book(unit, command.account_id, ids={each.customer_id for each in named})
    opened = named_redemptions(unit, book, command.redemption_ids)
    overdue = [
        each
        for each in map(opened.get, command.redemption_ids)
        if each is not None and is_overdue(each, unit.now) and book.wallet(each.customer_id) is not None
    ]
    for each in overdue:
        opened.end(each.id, "expire", TIMED_OUT)
    opened.write()
    book.write()
    return len(overdue)


# -- to redeem ---------------------------------------------------------------------------------------------------------


def _wallet(book: Book, command: RedeemPoints) -> Wallet:
    """The wallet of the customer that the command names. Raises `NotFound` `customer_not_found`."""
    if command.customer_id is not None:
        wallet, param = book.wallet(command.customer_id), "customer_id"
    else:
        wallet, param = book.wallet_by_external_id(command.customer_external_id or ""), "customer_external_id"
    if wallet is None:
        raise NotFound(
            f"There is no customer with this {param}; enroll it first.", code="customer_not_found", param=param
        )
    return wallet


def _transaction(
    unit: LoyaltyUnit, account_id: str, transaction_id: str | None, customer_id: str
) -> Transaction | None:
    """The purchase that the redemption pays for, if one is named. Raises `NotFound`, also for one of another customer."""
    if transaction_id is None:
        return None
    found = unit.transactions.get(account_id, transaction_id)
    if found is None or found.customer_id != customer_id:
        raise NotFound(f"The customer has no transaction {transaction_id[:64]!r}.", param="transaction_id")
    return found


def _reward(
    unit: LoyaltyUnit, book: Book, command: RedeemPoints, wallet: Wallet, transaction: Transaction | None
) -> Reward | None:
    """The reward that the command names. Raises `InvalidInput` when it is not available.

    The customer is locked, so no other redemption of the customer is being made.
    """
    if command.reward_id is None:
        return None
    reward = existing_reward(
        unit.rewards.get(command.account_id, command.reward_id), command.reward_id, param="reward_id"
    )
    redeemed = unit.redemptions.counts(wallet.id, [reward.id]).get(reward.id, 0)
    unavailable = why_not(reward, wallet.customer, redeemed, unit.now) or why_not_for(
        reward, _order(book, command, transaction), book.program
    )
    if unavailable is not None:
        raise reward_not_available(unavailable)
    return reward


def _take_from_stock(unit: LoyaltyUnit, reward: Reward | None) -> None:
    """Take one piece of a reward. The statement that takes it decides about the last one."""
    if reward is not None and reward.stock is not None and not unit.rewards.take_from_stock(reward.id, unit.now):
        raise reward_not_available(out_of_stock())


def _order(book: Book, command: RedeemPoints, transaction: Transaction | None) -> Order | None:
    """The order that the command describes, or the purchase that it names."""
    if command.amount is not None:
        return Order(command.amount, command.currency or book.program.rules.currency)
    return None if transaction is None else Order(transaction.amount, transaction.currency)


def _redemption(
    unit: LoyaltyUnit, command: RedeemPoints, wallet: Wallet, reward: Reward | None, time_zone: str
) -> Redemption:
    is_reserved = command.reserve_ms is not None
    return Redemption(
        id=unit.ids.new("red"),
        account_id=command.account_id,
        customer_id=wallet.id,
        reward_id=None if reward is None else reward.id,
        reward=None if reward is None else {each.name: getattr(reward, each.name) for each in fields(RewardShown)},
        points=reward.cost_points if reward is not None else command.points or 0,
        status="reserved" if is_reserved else "redeemed",
        transaction_id=command.transaction_id,
        code=_code(unit, command.account_id),
        external_id=command.external_id,
        reserved_until=None if command.reserve_ms is None else unit.now + command.reserve_ms,
        captured_at=None if is_reserved else unit.now,
        ended_at=None,
        actor=unit.actor,
        created_at=unit.now,
        day=day_of(unit.now, time_zone),
    )


def _post(unit: LoyaltyUnit, wallet: Wallet, redemption: Redemption) -> None:
    """Take the points out of the wallet."""
    shown = Redeemed(
        redemption_id=redemption.id,
        reward=None if redemption.reward is None else RewardShown(**redemption.reward),
        transaction_id=redemption.transaction_id,
        code=redemption.code,
        reserved_until=redemption.reserved_until,
    )
    wallet.redeem(redemption.points, shown, Cause("redemption", redemption.id, unit.actor, unit.now))
    wallet.days.add(redemption.day, redemptions=1, points_redeemed=redemption.points)


def _code(unit: LoyaltyUnit, account_id: str) -> str:
    """A code that a customer can show and an employee can type. No other redemption of the account has it.

    Two requests that run at the same time may still draw the same one: a code finds redemptions, and the id names one.
    """
    codes = [new_code(length, unit.random_bytes) for length in _CODE_LENGTHS]
    used = unit.redemptions.codes_in_use(account_id, codes[:-1])
    return next((code for code in codes if code not in used), codes[-1])


def new_code(length: int, random_bytes: Callable[[int], bytes]) -> str:
    """`LP-` and so many letters and digits."""
    drawn = int.from_bytes(random_bytes(8 + length), "big")
    letters = []
    for _ in range(length):
        drawn, letter = divmod(drawn, len(CODE_LETTERS))
        letters.append(CODE_LETTERS[letter])
    return "LP-" + "".join(letters)


def _replayed(known: Redemption, command: RedeemPoints, customer_id: str) -> Redemption:
    """The redemption that has this external id already, if it is the same one; a different one is a conflict."""
    points = known.points if command.points is None and known.reward_id is not None else command.points
    compared = {
        "customer": (known.customer_id, customer_id),
        "reward_id": (known.reward_id, command.reward_id),
        "points": (known.points, points),
        "reserve": (known.reserved_until is not None, command.reserve_ms is not None),
    }
    differing = [name for name, (before, now) in compared.items() if before != now]
    if differing:
        raise _exists(command.external_id, f"{known.id}, which differs in {', '.join(differing)}")
    return known


def _exists(external_id: str | None, other: str) -> Conflict:
    return Conflict(
        f"external_id {external_id!r} belongs to a redemption: {other}. Use another number.",
        code="redemption_exists",
        param="external_id",
    )


# -- to change a redemption --------------------------------------------------------------------------------------------


def _existing(unit: LoyaltyUnit, account_id: str, redemption_id: str) -> Redemption:
    found = unit.redemptions.get(account_id, redemption_id)
    if found is None:
        raise NotFound(f"There is no redemption {redemption_id}.", param="id")
    return found


def _open(unit: LoyaltyUnit, account_id: str, redemption_id: str) -> tuple[Book, RedemptionBook, Redemption]:
    """A redemption, read again under the lock of its customer. Raises `NotFound`, also when the customer was deleted."""
    before = _existing(unit, account_id, redemption_id)
    book = Book(unit, account_id, ids=[before.customer_id])
    opened = named_redemptions(unit, book, [redemption_id])
    redemption = opened.get(redemption_id) or before
    if book.wallet(redemption.customer_id) is None:
        if redemption.customer_id != before.customer_id:
            raise LockTaken(
                "The customer is being merged into another one; nothing was changed. Repeat it in a moment."
            )
        raise unknown_customer(redemption.customer_id)
    return book, opened, redemption


def _reversed_points(redemption: Redemption, wanted: int | None) -> int:
    left = redemption.points - redemption.points_returned
    points = left if wanted is None else wanted
    if points > left:
        raise InvalidInput(
            f"Only {left} of the {redemption.points} points can still be returned.",
            code="reversal_exceeds_redemption",
            param="points",
            facts={"remaining_points": left},
        )
    return points


def _written(unit: LoyaltyUnit, book: Book, opened: RedemptionBook, redemption: Redemption, action: str) -> Redemption:
    """Store what was decided, with a row of the audit log when something was."""
    if opened.is_changed:
        unit.audit(redemption.account_id, action, redemption.id)
    opened.write()
    book.write()
    return redemption
