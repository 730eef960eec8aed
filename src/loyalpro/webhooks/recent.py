"""Events and deliveries that were made lately, by the ends of their ids."""

from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.webhooks.ports import WebhooksUnit


def events_with_tail(unit: WebhooksUnit, query: RecentTail) -> list[str]:
    """The ids of events, newest first."""
    return unit.events.recent_with_tail(query)


def deliveries_with_tail(unit: WebhooksUnit, query: RecentTail) -> list[str]:
    """The ids of deliveries, newest first."""
    return unit.deliveries.recent_with_tail(query)
