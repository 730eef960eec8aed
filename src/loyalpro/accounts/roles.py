"""Roles: what a member of an account may see and change. Each page and each change of the dashboard needs one right."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, Protocol, get_args

from loyalpro.kernel.errors import Forbidden

Role = Literal["owner", "developer", "support", "viewer"]

Right = Literal[
    "endpoints.see",
    "endpoints.change",
    "deliveries.resend",
    "secrets",
    "keys",
    "customers.see",
    "customers.see_full",
    "customers.change",
    "customers.delete",
    "fraud.see",
    "fraud.change",
    "imports.see",
    "imports.change",
    "rewards.see",
    "rewards.change",
    "rules.see",
    "rules.change",
    "audit",
    "export",
    "members",
    "account",
]
"""What a role may do.

`endpoints.see` includes deliveries, events and the documentation; `endpoints.change` includes test events, pauses, replays and
canceling; `customers.see` shows contact data masked unless the role has `customers.see_full`, too; `customers.change` is to
record purchases, adjust, refund and merge; `account` includes the required second factor.
"""

ROLE_NAMES: Final[tuple[Role, ...]] = get_args(Role)
"""Every role, in the order in which they are shown."""

_SEE: Final[frozenset[Right]] = frozenset({"endpoints.see", "customers.see", "fraud.see", "imports.see", "rewards.see"})

ROLES: Final[Mapping[Role, frozenset[Right]]] = MappingProxyType(
    {
        "owner": frozenset(get_args(Right)),
        "developer": _SEE
        | {"endpoints.change", "deliveries.resend", "secrets", "keys", "customers.see_full", "rules.see"},
        "support": _SEE
        | {
            "deliveries.resend",
            "customers.see_full",
            "customers.change",
            "fraud.change",
            "imports.change",
            "rewards.change",
        },
        "viewer": _SEE | {"rules.see"},
    }
)


class HasRole(Protocol):
    """A member of an account."""

    @property
    def role(self) -> Role:
        """The role of the member."""
        ...


def require_right(membership: HasRole, right: Right) -> None:
    """Raise `Forbidden` `insufficient_role` when the role of the member does not have the right."""
    if right not in ROLES[membership.role]:
        raise Forbidden(f"Your role, {membership.role}, cannot do this. Ask an owner.", code="insufficient_role")
