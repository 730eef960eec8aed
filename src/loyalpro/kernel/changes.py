"""What differs between two states of a record: the `changes` of the audit log."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

_KEPT_BY_THE_ENTRY: Final = ("id", "account_id", "created_at", "updated_at")
"""Fields that an entry of the audit log has already, or that differ in every change."""


def changes_of(before: Any, after: Any) -> dict[str, Any]:
    """`before` and `after`: the fields that differ between two states of a record, with their values.

    `before` None: a record that is made; its fields with a value are in `after`. Records that are fields are compared field by
    field, and lists as a whole. Instants are UTC ms, as in the record.
    """
    was, now = _differences({} if before is None else _fields(before), _fields(after))
    return {"before": was, "after": now}


def _fields(state: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(state).items() if name not in _KEPT_BY_THE_ENTRY}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The members that differ, before and after. A member that is missing in one of them is left out there."""
    was: dict[str, Any] = {}
    now: dict[str, Any] = {}
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            was[name], now[name] = _differences(old, new)
            continue
        if name in before:
            was[name] = old
        if name in after:
            now[name] = new
    return was, now
