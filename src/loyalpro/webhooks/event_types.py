"""The event types that an endpoint may subscribe to."""

from collections.abc import Sequence
from difflib import get_close_matches

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.kernel.errors import InvalidInput
from loyalpro.webhooks.entities import ALL_TYPES


def checked_types(types: Sequence[str], *, param: str = "events") -> tuple[str, ...]:
    """The types without duplicates; `*` stands for all. Raises `InvalidInput` for one that does not exist."""
    for each in types:
        if each != ALL_TYPES:
            checked_type(each, param=param)
    return (ALL_TYPES,) if ALL_TYPES in types else tuple(dict.fromkeys(types))


def checked_type(event_type: str, *, param: str) -> str:
    """The type. Raises `InvalidInput` when it does not exist."""
    if event_type not in EVENT_TYPES:
        near = get_close_matches(event_type[:64], EVENT_TYPES, n=1)
        advice = f"did you mean {near[0]}?" if near else "GET /v1/event_types lists them."
        raise InvalidInput(
            f"{event_type[:64]!r} is not an event type; {advice}",
            code="unknown_event_type",
            param=param,
        )
    return event_type
