"""The command that gives points to a customer, or takes them, by hand."""

from dataclasses import field

from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import Conflict, Forbidden, InvalidInput, Refused
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.customers import unknown_customer
from loyalpro.loyalty.entities import PointsAdjustment
from loyalpro.loyalty.expiry import expires_at
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.loyalty.fraud.screening import Screening
from loyalpro.loyalty.ledger import Balance, Lot
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.redemption_book import expire_overdue
from loyalpro.loyalty.wallet import Adjustment, Cause, Credit, Wallet


@record
class AdjustPoints:
    """Points to give, or, below 0, to take. `expires_at`: of points that are given; None for the expiry policy.

    `allow_negative`: what is taken beyond the available points becomes debt. `most_points`: how many points the actor may give
    or take at once; None for no limit.
    """

    account_id: str
    customer_id: str
    points: int
    reason_code: str
    note: str | None = field(repr=False)
    expires_at: UnixMs | None
    counts_toward_tier: bool
    allow_negative: bool
    external_id: str | None
    most_points: int | None = None


@record
class AdjustmentPreview:
    """What an adjustment would do: the balance before and after it, and until when points that are given would be valid."""

    before: Balance
    after: Balance
    expires_at: UnixMs | None


@record
class MadeAdjustment:
    """An adjustment with its entry of the ledger and the balance as it is now.

    `expires_at`: of the points that were given. `replayed`: it had been made before, and nothing was changed.
    """

    adjustment: PointsAdjustment
    note: str | None
    expires_at: UnixMs | None
    balance: Balance
    replayed: bool


def adjust_points(unit: FraudUnit, command: AdjustPoints) -> MadeAdjustment | Refused:
    """Give points as a lot, or take them in spending order.

    Emits `points.adjusted` of the kind `manual`, and `customer.tier_changed` when points that count toward tiers make the
    customer rise. Returns `blocked_by_fraud_rule` when a fraud rule stops it: then no point is given, and the case is to be
    committed.

    Raises `NotFound` `customer_not_found`; `InvalidInput` `insufficient_points` and `points_limit`; `Forbidden`
    `adjustment_limit`; `Conflict` `adjustment_exists` for an external id of another adjustment.
    """
    book = Book(unit, command.account_id, ids=[command.customer_id], with_lots=True)
    wallet = book.wallet(command.customer_id)
    if wallet is None:
        raise unknown_customer(command.customer_id)
    if command.external_id and (known := unit.adjustments.by_external_id(command.account_id, command.external_id)):
        return _replayed(unit, known, command, wallet)
    _require_sensible(command, unit.now)
    if command.points < 0:
        expire_overdue(unit, book)
    id_ = unit.ids.new("adj")
    screening = Screening(unit, book)
    decision = screening.credit(wallet, id_, command.points)
    if decision.refusal is not None:
        screening.report()
        screening.write()
        book.write()
        return decision.refusal
    lot = _post(unit, book, wallet, command, id_)
    adjustment = _adjustment(unit, command, id_, wallet.entries[-1].id, lot)
    if command.counts_toward_tier:
        book.tiers.upgrade(wallet)
    if not unit.adjustments.insert(adjustment):
        raise _exists(command.external_id, "another request made it")
    screening.report()
    screening.write()
    book.write()
    unit.audit(command.account_id, "points.adjusted", id_)
    return MadeAdjustment(
        adjustment, command.note, None if lot is None else lot.expires_at, wallet.balance, replayed=False
    )


def preview_adjustment(unit: LoyaltyUnit, command: AdjustPoints) -> AdjustmentPreview:
    """What `adjust_points` would do now, unless a fraud rule stops it. Nothing is written.

    Raises what `adjust_points` raises for this command.
    """
    book = Book(unit, command.account_id, ids=[command.customer_id], with_lots=True, only_reads=True)
    wallet = book.wallet(command.customer_id)
    if wallet is None:
        raise unknown_customer(command.customer_id)
    _require_sensible(command, unit.now)
    before = wallet.balance
    lot = _post(unit, book, wallet, command, unit.ids.new("adj"))
    return AdjustmentPreview(before, wallet.balance, None if lot is None else lot.expires_at)


def _require_sensible(command: AdjustPoints, now: UnixMs) -> None:
    """Refuse what has no effect, which the caller may not know, and what is above the actor's limit."""
    if not command.points:
        raise _invalid("points", "Send points above 0 to give them, or below 0 to take them.")
    if command.expires_at is not None and command.points < 0:
        raise _invalid("expires_at", "Points that are taken have no expires_at; leave it out.")
    if command.expires_at is not None and command.expires_at <= now:
        raise _invalid(
            "expires_at", f"expires_at is past: it is {rfc3339(now)} now. Send a later time, or leave it out."
        )
    if command.allow_negative and command.points > 0:
        raise _invalid("allow_negative", "allow_negative is for points that are taken; leave it out.")
    if command.most_points is not None and abs(command.points) > command.most_points:
        raise Forbidden(
            f"Your role may give or take up to {command.most_points:,} points at once. Ask an owner to do this.",
            code="adjustment_limit",
            param="points",
        )


def _post(unit: LoyaltyUnit, book: Book, wallet: Wallet, command: AdjustPoints, id_: str) -> Lot | None:
    """Change the wallet with one entry; the lot of points that are given."""
    cause = Cause("adjustment", id_, unit.actor, unit.now, command.reason_code, command.note)
    shown = Adjustment("manual", counts_toward_tier=command.counts_toward_tier)
    if command.points < 0:
        wallet.deduct(-command.points, shown, cause, allow_negative=command.allow_negative)
        return None
    rules = book.program.rules
    valid_until = command.expires_at or expires_at(rules.expiry, unit.now, rules.time_zone)
    return wallet.give(Credit(command.points, valid_until), shown, cause)


def _adjustment(unit: LoyaltyUnit, command: AdjustPoints, id_: str, entry_id: str, lot: Lot | None) -> PointsAdjustment:
    return PointsAdjustment(
        id=id_,
        account_id=command.account_id,
        customer_id=command.customer_id,
        external_id=command.external_id,
        points=command.points,
        reason_code=command.reason_code,
        expires_at=command.expires_at,
        counts_toward_tier=command.counts_toward_tier,
        allow_negative=command.allow_negative,
        entry_id=entry_id,
        lot_id=None if lot is None else lot.id,
        actor=unit.actor,
        created_at=unit.now,
    )


def _replayed(unit: LoyaltyUnit, known: PointsAdjustment, command: AdjustPoints, wallet: Wallet) -> MadeAdjustment:
    """The adjustment that has this external id already, if it is the same one; a different one is a conflict.

    The note does not count: it may have been erased.
    """
    names = ("customer_id", "points", "reason_code", "expires_at", "counts_toward_tier", "allow_negative")
    differing = [name for name in names if getattr(known, name) != getattr(command, name)]
    if differing:
        raise _exists(command.external_id, f"{known.id} differs in {', '.join(differing)}")
    [entry] = unit.ledger.entries_of_source(known.id)
    lots = unit.ledger.lots([known.lot_id]) if known.lot_id else []
    return MadeAdjustment(known, entry.note, lots[0].expires_at if lots else None, wallet.balance, replayed=True)


def _exists(external_id: str | None, other: str) -> Conflict:
    return Conflict(
        f"external_id {external_id!r} belongs to an adjustment: {other}. Use another number.",
        code="adjustment_exists",
        param="external_id",
    )


def _invalid(param: str, detail: str) -> InvalidInput:
    return InvalidInput(detail, code="invalid_field", param=param)
