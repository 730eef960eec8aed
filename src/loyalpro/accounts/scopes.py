"""Scopes: what an API key may do. Each call of the API needs exactly one, and none includes another."""

from collections.abc import Sequence
from typing import Final, Literal, cast, get_args

from loyalpro.accounts.entities import ApiKey
from loyalpro.kernel.errors import Forbidden, InvalidInput
from loyalpro.kernel.nearest import suggestion

Scope = Literal["read", "customers", "transactions", "points", "program", "webhooks", "admin"]

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""Every scope, in the order in which they are shown."""


def checked_scopes(scopes: Sequence[str], *, param: str = "scopes") -> tuple[Scope, ...]:
    """These scopes, each once and in the order of `SCOPES`. Raises `InvalidInput` for none, and for an unknown one."""
    if not scopes:
        raise InvalidInput(f"A key needs at least one scope: {', '.join(SCOPES)}.", code="missing_field", param=param)
    for each in scopes:
        if each not in SCOPES:
            raise InvalidInput(suggestion(each, SCOPES, "scope"), code="unknown_scope", param=param)
    return tuple(each for each in SCOPES if each in cast("Sequence[Scope]", scopes))


def require_scope(key: ApiKey, scope: Scope) -> None:
    """Raise `Forbidden` `insufficient_scope`, which names the scope, when the key does not have it."""
    if scope not in key.scopes:
        raise Forbidden(
            f"This call needs an API key with the scope {scope}; this key has {', '.join(key.scopes)}.",
            code="insufficient_scope",
        )
