"""What people call those who made changes."""

from collections.abc import Iterable, Mapping
from typing import Final

from loyalpro.accounts.ports import AccountsUnit

_PERSON: Final = "person:"


def names_of(unit: AccountsUnit, account_id: str, actors: Iterable[str]) -> Mapping[str, str]:
    """The names of the actors that are members of the account, in one statement; others are left out."""
    people = {each.removeprefix(_PERSON) for each in actors if each.startswith(_PERSON)}
    if not people:
        return {}
    return {f"{_PERSON}{id_}": name for id_, name in unit.people.names(account_id, people).items()}
