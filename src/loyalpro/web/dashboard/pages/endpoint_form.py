"""The fields of an endpoint in forms: of the one that adds it, and of the one that changes its settings."""

from typing import Any, Final

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.kernel.errors import InvalidInput
from loyalpro.web.dashboard.forms import Form
from loyalpro.webhooks.entities import ALL_TYPES

FIELDS: Final = ("url", "description", "events", "ordering", "rate_limit", "headers")
_LONGEST_NAME: Final = 255
_HIGHEST_RATE: Final = 10_000
_GROUPS: Final = {"Customers": "customer.", "Points": "points.", "Transactions": "transaction."}
_OTHERS: Final = "Alerts"


def settings_of(form: Form) -> dict[str, Any]:
    """The settings in a form but the URL, by the names of the command. Raises `InvalidInput` that names the field."""
    description = form.text("description")
    if len(description) > _LONGEST_NAME:
        raise InvalidInput(f"A name has up to {_LONGEST_NAME} characters.", code="invalid_field", param="description")
    types = [ALL_TYPES] if form.text("which") == ALL_TYPES else form.texts("events")
    if not types:
        raise InvalidInput("Select at least one event type, or all events.", code="invalid_field", param="events")
    return {
        "types": types,
        "description": description or None,
        "ordering": "customer" if form.text("ordering") == "customer" else "none",
        "rate_limit": _rate_limit(form.text("rate_limit")),
        "headers": _headers(form.raw("headers")),
    }


def _rate_limit(text: str) -> int | None:
    if not text:
        return None
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_HIGHEST_RATE)) else 0
    if not 1 <= value <= _HIGHEST_RATE:
        detail = f"A rate limit is a whole number from 1 to {_HIGHEST_RATE:,}, or nothing."
        raise InvalidInput(detail, code="invalid_field", param="rate_limit")
    return value


def _headers(text: str) -> dict[str, str]:
    """Headers that are written one to a line, as `Name: value`."""
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, colon, value = line.partition(":")
        if not colon:
            raise InvalidInput("Write each header on a line: Name: value", code="invalid_field", param="headers")
        found[name.strip()] = value.strip()
    return found


def groups() -> list[tuple[str, list[tuple[str, str]]]]:
    """The event types with what they say, in their four groups."""
    found: dict[str, list[tuple[str, str]]] = {group: [] for group in (*_GROUPS, _OTHERS)}
    for each in EVENT_TYPES.values():
        group = next((group for group, start in _GROUPS.items() if each.name.startswith(start)), _OTHERS)
        found[group].append((each.name, each.description))
    return list(found.items())
