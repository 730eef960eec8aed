"""What has happened in a program since the beginning of a day, beside the same time a week before."""

from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import Activity
from loyalpro.loyalty.ports import LoyaltyUnit

MOST_COUNTED: Final = 5_000


@record
class CompareDays:
    """A day up to now, and a part of an earlier day, each from its beginning."""

    account_id: str
    today: UnixMs
    earlier: UnixMs
    earlier_until: UnixMs


def compare_days(unit: LoyaltyUnit, query: CompareDays) -> tuple[Activity, Activity]:
    """What happened today, and on the earlier day. One more than `MOST_COUNTED` stands for more."""
    count = unit.reports.activity
    most = MOST_COUNTED + 1
    return (
        count(query.account_id, query.today, unit.now + 1, most),
        count(query.account_id, query.earlier, query.earlier_until, most),
    )
