"""Who made a change, in words: a member by name, a key by its name, and the program itself."""

from collections.abc import Iterable, Mapping
from typing import Final

from loyalpro.accounts import actor_names
from loyalpro.accounts.api_keys import ListKeys, list_keys
from loyalpro.web.unit import Unit

_MOST: Final = 200


def names_of(unit: Unit, account_id: str, actors: Iterable[str]) -> Mapping[str, str]:
    """The names of actors by how changes name them. A key that is not among the newest is an id."""
    wanted = set(actors)
    names = {each: _plain(each) for each in wanted}
    names |= actor_names.names_of(unit, account_id, wanted)
    if any(each.startswith("key:") for each in wanted):
        for key in list_keys(unit, ListKeys(account_id, None, _MOST)):
            names[key.actor] = f"API key {key.name}"
    return names


def _plain(actor: str) -> str:
    kind, _, rest = actor.partition(":")
    return "LoyalPro" if kind == "system" else f"{'a former member' if kind == 'person' else 'API key'} {rest}"
