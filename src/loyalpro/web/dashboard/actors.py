"""Who made a change, in words: a member by name, a key by its name, and the program itself."""

from collections.abc import Iterable, Mapping
from typing import Final

from loyalpro.accounts.api_keys import ListKeys, list_keys
from loyalpro.accounts.people import ListMembers, list_members
from loyalpro.web.unit import Unit

_MOST: Final = 200


def names_of(unit: Unit, account_id: str, actors: Iterable[str]) -> Mapping[str, str]:
    """The names of actors by how changes name them. Who is not among the first members or the newest keys is an id."""
    wanted = set(actors)
    names = {each: _plain(each) for each in wanted}
    if any(each.startswith("person:") for each in wanted):
        for member in list_members(unit, ListMembers(account_id, None, _MOST)):
            names[member.person.actor] = member.person.name or member.person.email
    if any(each.startswith("key:") for each in wanted):
        for key in list_keys(unit, ListKeys(account_id, None, _MOST)):
            names[key.actor] = f"API key {key.name}"
    return names


def _plain(actor: str) -> str:
    kind, _, rest = actor.partition(":")
    return "LoyalPro" if kind == "system" else f"{'a former member' if kind == 'person' else 'API key'} {rest}"
