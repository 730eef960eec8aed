"""How many of its endpoints an event has reached."""

from collections.abc import Collection, Mapping
from typing import Final

from loyalpro.webhooks.entities import Reached
from loyalpro.webhooks.ports import WebhooksUnit

MOST_EVENTS: Final = 100
_NONE: Final = Reached(delivered=0, total=0)

__all__ = ["MOST_EVENTS", "Reached", "reached"]


def reached(unit: WebhooksUnit, account_id: str, event_ids: Collection[str]) -> Mapping[str, Reached]:
    """Of each of these events, at most `MOST_EVENTS`, how many of its deliveries have succeeded, in one statement."""
    assert len(event_ids) <= MOST_EVENTS, "a page has at most so many"
    found = unit.deliveries.reached(account_id, event_ids)
    return {id_: found.get(id_, _NONE) for id_ in event_ids}
