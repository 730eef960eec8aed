"""Which event told the receivers of an entry of a customer's ledger."""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.ids import floor
from loyalpro.kernel.record import record
from loyalpro.webhooks.ports import WebhooksUnit

MOST_LOOKED_AT: Final = 5_000
"""How many of a customer's newest events are looked at."""
_LATER_MS: Final = 60 * MS_PER_S
"""How much later than its entry an event may have got its id, with what clocks of several servers differ by."""
_TYPES: Final = "points."


@record
class EntryEvents:
    """Entries of one customer that were made from `since` to `until`, by their ids."""

    account_id: str
    customer_id: str
    entry_ids: Collection[str]
    since: UnixMs
    until: UnixMs


class _Data(msgspec.Struct):
    entry_id: str = ""


class _Body(msgspec.Struct):
    data: _Data


def events_of_entries(unit: WebhooksUnit, query: EntryEvents) -> Mapping[str, str]:
    """The id of the event of each entry, in one statement; without the entries that no event tells, or no kept one."""
    if not query.entry_ids:
        return {}
    between = floor("evt", max(0, query.since - _LATER_MS)), floor("evt", query.until + _LATER_MS)
    found = unit.events.of_customer(query.account_id, query.customer_id, between, MOST_LOOKED_AT, start=_TYPES)
    wanted = set(query.entry_ids)
    told = {msgspec.json.decode(each.body, type=_Body).data.entry_id: each.id for each in found}
    return {entry_id: event_id for entry_id, event_id in told.items() if entry_id in wanted}
