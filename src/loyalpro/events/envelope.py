"""Freezes an event into the bytes that every receiver gets, on every attempt."""

from loyalpro.events.catalog import API_VERSION
from loyalpro.events.new_event import NewEvent
from loyalpro.events.stable_json import freeze
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.origin import Origin
from loyalpro.kernel.record import record


@record
class Event:
    """An event as it is stored. `body` never changes, unless its customer is erased.

    `request_id` and `traceparent`: the request that caused it. They are None without one, and are erased with the customer.
    `imported`: an import caused it.
    """

    id: str
    account_id: str
    type: str
    customer_id: str | None
    sequence: int | None
    created_at: UnixMs
    body: bytes
    request_id: str | None = None
    traceparent: str | None = None
    imported: bool = False


def seal(new: NewEvent, *, event_id: str, now: UnixMs, origin: Origin | None = None, is_import: bool = False) -> Event:
    """Freeze the body, which says nothing of the origin. `is_import`: an import causes the event.

    Raises `InvalidInput` for data that does not fit into an event or that JavaScript would change.
    """
    body = freeze(
        {
            "id": event_id,
            "type": new.type,
            "created_at": rfc3339(now),
            "api_version": API_VERSION,
            "account_id": new.account_id,
            "sequence": new.sequence,
            "data": new.content,
        }
    )
    request_id, traceparent = (None, None) if origin is None else (origin.request_id, origin.traceparent)
    return Event(
        event_id,
        new.account_id,
        new.type,
        new.customer_id,
        new.sequence,
        now,
        body,
        request_id,
        traceparent,
        is_import,
    )
