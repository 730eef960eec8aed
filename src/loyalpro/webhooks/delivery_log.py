"""The deliveries of an account as a log: each with its endpoint, its last attempt and its customer, and what waits."""

from collections.abc import Mapping, Sequence
from typing import Final

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.states import EndpointStatus
from loyalpro.kernel.record import record
from loyalpro.webhooks.deliveries import ListDeliveries, find_deliveries
from loyalpro.webhooks.entities import Delivery, Endpoint, LastAttempt
from loyalpro.webhooks.overview import MOST_COUNTED, MOST_COUNTED_IN_LIST, MOST_LISTED
from loyalpro.webhooks.ports import WebhooksUnit
from loyalpro.webhooks.reached import MOST_EVENTS

MOST_LINES: Final = MOST_EVENTS
OUTCOMES: Final[Mapping[str, str]] = {
    OutcomeCode.SUCCEEDED: "2xx, accepted",
    OutcomeCode.HTTP_3XX: "3xx",
    OutcomeCode.HTTP_4XX: "4xx",
    OutcomeCode.GONE: "410, gone",
    OutcomeCode.HTTP_5XX: "5xx",
    OutcomeCode.HTTP_OTHER: "another status",
    OutcomeCode.TIMEOUT: "no answer",
    OutcomeCode.DNS_FAILED: "no address",
    OutcomeCode.CONNECT_FAILED: "no connection",
    OutcomeCode.CONNECTION_LOST: "connection lost",
    OutcomeCode.TLS_FAILED: "TLS failed",
    OutcomeCode.TLS_CERTIFICATE_EXPIRED: "certificate expired",
    OutcomeCode.TLS_CERTIFICATE_NOT_YET_VALID: "certificate not yet valid",
    OutcomeCode.TLS_HOSTNAME_MISMATCH: "certificate for another name",
    OutcomeCode.TLS_UNTRUSTED: "certificate not trusted",
    OutcomeCode.INVALID_RESPONSE: "not HTTP",
    OutcomeCode.RESPONSE_HEADERS_TOO_LARGE: "large headers",
    OutcomeCode.TARGET_NOT_ALLOWED: "not public",
    OutcomeCode.INTERRUPTED: "interrupted",
    OutcomeCode.INTERNAL_ERROR: "our error",
}
"""Every outcome in the words of a filter."""


@record
class LogLine:
    """A delivery. `endpoint` is None when it is deleted, `last` without an attempt, and `customer_id` without a customer."""

    delivery: Delivery
    endpoint: Endpoint | None
    last: LastAttempt | None
    customer_id: str | None


@record
class DeliveryLog:
    """A page of the log, as far as a search goes: `next_before_id` and `looked_back_to` are those of `DeliveryPage`."""

    lines: Sequence[LogLine]
    next_before_id: str | None
    looked_back_to: int | None


@record
class Owed:
    """What is owed to the endpoints of an account, newest endpoint first.

    `waiting`: how many deliveries wait for each, counted up to `MOST_COUNTED_IN_LIST` and one more. `exhausted`: how many were
    given up, counted up to `MOST_COUNTED` and one more.
    """

    endpoints: Sequence[Endpoint]
    waiting: Mapping[str, int]
    exhausted: int

    def count(self, *, enabled: bool) -> int:
        """How many deliveries wait for endpoints that are enabled, or for those that are not."""
        return sum(
            self.waiting.get(each.id, 0)
            for each in self.endpoints
            if (each.status is EndpointStatus.ENABLED) == enabled
        )


def read_owed(unit: WebhooksUnit, account_id: str) -> Owed:
    """What waits, and what was given up."""
    endpoints = unit.endpoints.list_before(account_id, None, MOST_LISTED)
    waiting = unit.deliveries.waiting([each.id for each in endpoints], MOST_COUNTED_IN_LIST + 1)
    return Owed(endpoints, waiting, unit.deliveries.count_exhausted(account_id, MOST_COUNTED + 1))


def read_log(unit: WebhooksUnit, query: ListDeliveries, endpoints: Sequence[Endpoint]) -> DeliveryLog:
    """A page of at most `MOST_LINES` deliveries, newest first. `endpoints`: those of the account."""
    found = find_deliveries(unit, query)
    by_id = {each.id: each for each in endpoints}
    last = unit.deliveries.last_attempts(found.deliveries)
    customers = unit.events.customers_of(query.account_id, {each.event_id for each in found.deliveries})
    lines = [
        LogLine(each, by_id.get(each.endpoint_id), last.get(each.id), customers.get(each.event_id))
        for each in found.deliveries
    ]
    return DeliveryLog(lines, found.next_before_id, found.looked_back_to)
