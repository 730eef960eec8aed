"""Suggests the name that a caller probably meant."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

_LONGEST: Final = 64


def suggestion(name: str, known: Collection[str], kind: str) -> str:
    """What to do about the unknown `name` of a `kind`, such as `field`; `known` are all names that there are."""
    shown = name[:_LONGEST]
    if not known:
        return f"This call has no {kind}s; leave {shown!r} out."
    near = nearest(shown, known)
    return f"There is no {kind} {shown!r}. " + (
        f"Did you mean {near}?" if near else f"Known {kind}s: {', '.join(sorted(known))}."
    )


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that is most like `name`; None when none is."""
    found = get_close_matches(name[:_LONGEST].lower(), sorted(known), n=1)
    return found[0] if found else None
