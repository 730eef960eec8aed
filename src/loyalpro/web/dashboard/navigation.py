"""The sidebar: the pages that exist, and that this member may see."""

from collections.abc import Mapping
from typing import Final

from fastapi import Request

from loyalpro.accounts.roles import ROLES, Right
from loyalpro.kernel.record import record
from loyalpro.web.dashboard.visits import Visit


@record
class Place:
    """A page in the sidebar. `key`: the key that leads to it after `g`. `right`: who sees it."""

    name: str
    path: str
    right: Right | None = None
    key: str | None = None


PLACES: Final[Mapping[str, tuple[Place, ...]]] = {
    "": (Place("Overview", "/", key="o"),),
    "Program": (
        Place("Customers", "/customers", "customers.see", "c"),
        Place("Transactions", "/transactions", "customers.see"),
        Place("Rewards", "/rewards", "rewards.see"),
        Place("Rules and tiers", "/rules", "rules.see"),
        Place("Fraud cases", "/fraud", "fraud.see"),
        Place("Churn", "/churn", "customers.see"),
        Place("Imports", "/imports", "imports.see"),
    ),
    "Developers": (
        Place("Webhooks", "/developers/webhooks", "endpoints.see", "w"),
        Place("Deliveries", "/developers/deliveries", "endpoints.see", "d"),
        Place("Events", "/developers/events", "endpoints.see", "e"),
        Place("API keys", "/developers/keys", "keys"),
        Place("Documentation", "/documentation", "endpoints.see"),
    ),
    "Account": (Place("Members", "/members", "members"), Place("Audit log", "/audit", "audit")),
}
"""The sections of the sidebar in their order."""


def sections(request: Request, visit: Visit) -> list[tuple[str, list[Place]]]:
    """The sections with what this visitor can open; without sections that are empty."""
    exist: frozenset[str] = request.app.state.page_paths
    rights = frozenset[Right]() if visit.signed_in is None else ROLES[visit.signed_in.membership.role]
    found = {
        section: [place for place in places if place.path in exist and (place.right is None or place.right in rights)]
        for section, places in PLACES.items()
    }
    return [(section, places) for section, places in found.items() if places]


def is_current(place: Place, path: str) -> bool:
    """Whether the page at `path` is this place, or one below it."""
    return path == place.path or path.startswith(f"{place.path}/")
