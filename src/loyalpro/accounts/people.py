"""People and members: who belongs to an account with which role. An account that has an owner keeps one."""

from typing import Final, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from loyalpro.accounts.entities import Member, Person, Theme
from loyalpro.accounts.names import checked_name
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.accounts.roles import ROLE_NAMES, Role
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound
from loyalpro.kernel.record import record, with_fields

MAX_EMAIL: Final = 254


@record
class UpdatePerson:
    """What a person changes of the own settings."""

    person_id: str
    name: str
    time_zone: str | None
    theme: str
    shortcuts: bool


@record
class ListMembers:
    """A page of members in the order of their ids: those after `after_id`."""

    account_id: str
    after_id: str | None
    limit: int


@record
class MemberRef:
    """Names a member of an account."""

    account_id: str
    person_id: str


@record
class ChangeRole:
    """The member, and the new role."""

    account_id: str
    person_id: str
    role: str


def new_person(
    unit: AccountsUnit,
    account_id: str,
    role: Role,
    *,
    email: str,
    name: str,
    password_hash: str,
    time_zone: str | None = None,
) -> Person:
    """Store a person as a member of an account. `email`: one that is checked. Raises `Conflict` `email_taken`."""
    person = Person(
        id=unit.ids.new("usr"),
        email=email,
        name=name and checked_name(name),
        time_zone=checked_time_zone(time_zone),
        theme="system",
        shortcuts=True,
        has_second_factor=False,
        created_at=unit.now,
    )
    if unit.people.credentials(person.email) is not None:
        raise Conflict(
            "There is a person with this e-mail address already. Sign in first, and then open the link again.",
            code="email_taken",
            param="email",
        )
    unit.people.insert(person, password_hash, account_id, role)
    unit.audit(account_id, "member.added", person.id, {"before": {}, "after": {"role": role}})
    return person


def update_person(unit: AccountsUnit, command: UpdatePerson) -> Person:
    """Change the own settings. Raises `InvalidInput` and `NotFound`."""
    found = unit.people.lock(command.person_id)
    if found is None:
        raise NotFound("There is no such person any more.")
    themes: tuple[Theme, ...] = get_args(Theme)
    theme = next((each for each in themes if each == command.theme), None)
    if theme is None:
        raise InvalidInput(f"A theme is one of {', '.join(themes)}.", code="invalid_field", param="theme")
    person = with_fields(
        found.person,
        name=checked_name(command.name) if command.name.strip() else "",
        time_zone=checked_time_zone(command.time_zone),
        theme=theme,
        shortcuts=command.shortcuts,
    )
    unit.people.update(person)
    return person


def list_members(unit: AccountsUnit, query: ListMembers) -> list[Member]:
    """Members, the oldest person first."""
    return unit.people.list_members(query.account_id, query.after_id, query.limit)


def get_member(unit: AccountsUnit, query: MemberRef) -> Member:
    """One member. Raises `NotFound`."""
    member = unit.people.member(query.account_id, query.person_id)
    if member is None:
        raise NotFound(f"There is no member {query.person_id[:64]}.", param="id")
    return member


def change_role(unit: AccountsUnit, command: ChangeRole) -> Member:
    """Change the role of a member, whose web sessions in the account end: the next sign-in has the new role.

    Raises `NotFound`, `InvalidInput` for an unknown role, and `Conflict` `last_owner`.
    """
    role = checked_role(command.role)
    unit.people.lock_members(command.account_id)
    member = get_member(unit, MemberRef(command.account_id, command.person_id))
    if member.role == role:
        return member
    _require_another_owner(unit, command.account_id, member)
    _take_rights(unit, command.account_id, member.person)
    unit.people.set_role(command.account_id, member.person.id, role)
    changes = {"before": {"role": member.role}, "after": {"role": role}}
    unit.audit(command.account_id, "member.role_changed", member.person.id, changes)
    return get_member(unit, MemberRef(command.account_id, command.person_id))


def remove_member(unit: AccountsUnit, command: MemberRef) -> None:
    """Remove a member; the member's web sessions in the account end with it. A person without an account cannot sign in.

    Raises `NotFound` and `Conflict` `last_owner`.
    """
    unit.people.lock_members(command.account_id)
    member = get_member(unit, command)
    _require_another_owner(unit, command.account_id, member)
    _take_rights(unit, command.account_id, member.person)
    unit.people.remove_member(command.account_id, member.person.id)
    unit.audit(command.account_id, "member.removed", member.person.id, {"before": {"role": member.role}, "after": {}})


def checked_role(role: str) -> Role:
    """`role` if it is one. Raises `InvalidInput`."""
    found = next((each for each in ROLE_NAMES if each == role), None)
    if found is None:
        raise InvalidInput(f"A role is one of {', '.join(ROLE_NAMES)}.", code="unknown_role", param="role")
    return found


def checked_email(email: str, *, param: str = "email") -> str:
    """An e-mail address in lower case and without spaces around it. Raises `InvalidInput` for what cannot be one."""
    found = email.strip().lower()
    local, at, domain = found.rpartition("@")
    if (
        not (local and at and domain)
        or "@" in local
        or len(found) > MAX_EMAIL
        or not found.isprintable()
        or " " in found
    ):
        raise InvalidInput("An e-mail address looks like ada@example.com.", code="invalid_field", param=param)
    return found


def checked_time_zone(name: str | None, *, param: str = "time_zone") -> str | None:
    """The name of a time zone, such as `Europe/Paris`; None for an empty one. Raises `InvalidInput`."""
    if not name:
        return None
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput("A time zone has a name such as Europe/Paris.", code="invalid_field", param=param) from None
    return name


def _take_rights(unit: AccountsUnit, account_id: str, person: Person) -> None:
    """End what a member may still do with the old role: the web sessions in the account, and the links that were passed on."""
    for ended in unit.web_sessions.end_in(account_id, person.id):
        unit.audit(account_id, "web_session.ended", ended.id)
    unit.invitations.remove_of(account_id, person.actor)


def _require_another_owner(unit: AccountsUnit, account_id: str, member: Member) -> None:
    """Raise `Conflict` when the member is the only owner. The members are locked."""
    if member.role == "owner" and unit.people.owners(account_id) == [member.person.id]:
        raise Conflict("This is the only owner of the account. Make another member an owner first.", code="last_owner")
