"""Derives the days of a customer again, from purchases, refunds, redemptions and entries, and finds those that differ. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.customer_log import CheckedPurchase, CheckedRefund, CustomerLog
from loyalpro.loyalty.expiry import Day, date_of, day_of

_REDEEMED: Final = ("reserved", "redeemed")
_COUNTED: Final = ("purchases", "spend", "points_qualifying", "refunds", "refunded", "redemptions", "points_redeemed")

_Days = dict[Day, Counter[str]]


def wrong_days(log: CustomerLog) -> Iterator[str]:
    """The days that do not have what happened on them, and what counts on a day on which it did not happen."""
    yield from _moved_days(log)
    stored = {each.day: each for each in log.days}
    expected: _Days = {} if log.is_gone else _expected(log)
    for day in sorted({*expected, *stored}):
        for name in _COUNTED:
            said = getattr(stored[day], name) if day in stored else 0
            derived = expected[day][name] if day in expected else 0
            if said != derived:
                yield f"day {date_of(day)} has {said} {name}, and what happened on it comes to {derived}"


def _moved_days(log: CustomerLog) -> Iterator[str]:
    """What counts on its own day has that of one of the program's time zones: they change before the first purchase only."""
    zones = set(log.time_zones.values())
    for entry in log.entries:
        if entry.qualifying_day is not None and entry.qualifying_day not in _days_of(entry.occurred_at, zones):
            yield f"entry {entry.id} counts on day {date_of(entry.qualifying_day)}, on which it was not made"
    for each in log.redemptions:
        if each.day not in _days_of(each.created_at, zones):
            yield f"redemption {each.id} counts on day {date_of(each.day)}, on which it was not made"


def _days_of(instant: UnixMs, zones: Iterable[str]) -> set[Day]:
    return {day_of(instant, zone) for zone in zones}


def _expected(log: CustomerLog) -> _Days:
    found: _Days = defaultdict(Counter)
    _add_purchases(found, log)
    for redemption in log.redemptions:
        found[redemption.day].update(
            redemptions=int(redemption.status in _REDEEMED),
            points_redeemed=redemption.points - redemption.points_returned,
        )
    for entry in (*log.inherited, *log.entries):
        if entry.qualifying_day is not None:
            found[entry.qualifying_day].update(points_qualifying=entry.points)
    return found


def _add_purchases(found: _Days, log: CustomerLog) -> None:
    """A refund takes off the day of its purchase. Points count without what refunds took, wrote off or found to be lost.

    Points that a fraud case holds, or has canceled, count nothing: a lot that was released has no case any more.
    """
    refunds = _by_purchase(log.refunds)
    held = {lot.transaction_id for lot in log.lots if lot.hold_case_id is not None}
    for purchase in log.purchases:
        own, spend = refunds[purchase.id], _spend_refunded(purchase)
        points = 0 if purchase.id in held else purchase.points_earned - sum(map(_accounted, own))
        found[_day_of(purchase, log.time_zones)].update(
            purchases=int(purchase.status != "refunded"),
            spend=purchase.base_amount - spend,
            points_qualifying=points,
            refunds=len(own),
            refunded=spend,
        )


def _day_of(purchase: CheckedPurchase, time_zones: Mapping[int, str]) -> Day:
    """The local day by the version of the program that priced it."""
    return day_of(purchase.occurred_at, time_zones[purchase.program_version])


def _by_purchase(refunds: Iterable[CheckedRefund]) -> Mapping[str, list[CheckedRefund]]:
    found: dict[str, list[CheckedRefund]] = defaultdict(list)
    for refund in refunds:
        found[refund.transaction_id].append(refund)
    return found


def _spend_refunded(purchase: CheckedPurchase) -> int:
    if purchase.status == "completed":
        return 0
    amount = purchase.amount
    return purchase.base_amount * purchase.refunded_amount // amount if amount else purchase.base_amount


def _accounted(refund: CheckedRefund) -> int:
    return refund.points_clawed_back + refund.points_shortfall + refund.points_expired_before
