"""Members of the account: invite, change the role, reset the password, remove; and whether a second factor is required."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from loyalpro.accounts.invitations import (
    CreatedInvitation,
    InvitationRef,
    Invite,
    ListInvitations,
    invite,
    list_invitations,
    revoke_invitation,
)
from loyalpro.accounts.password_changes import ResetMemberPassword, reset_member_password
from loyalpro.accounts.people import ChangeRole, ListMembers, MemberRef, change_role, list_members, remove_member
from loyalpro.accounts.roles import ROLE_NAMES, Role
from loyalpro.accounts.second_factor import RequireSecondFactor, require_second_factor
from loyalpro.accounts.support_limit import LimitSupport, limit_support
from loyalpro.kernel.errors import Refused
from loyalpro.web.dashboard.forms import Form, SentForm, blank, commit
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.sessions import again
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit

_PATH: Final = "/members"
_TEMPLATE: Final = "members/members.html"
_PAGE: Final = 50
_MOST_DIGITS: Final = 12
_MEANINGS: Final[dict[Role, str]] = {
    "owner": "Owner: everything, members included",
    "developer": "Developer: endpoints, secrets, API keys",
    "support": "Support: customers, fraud cases, resending",
    "viewer": "Viewer: sees, changes nothing",
}

PersonId = Annotated[str, Path(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get(_PATH, name="members")
async def show(request: Request, visitor: Visitor, services: ServicesDep, after: str | None = None) -> Response:
    """Who belongs to the account, and who is invited."""
    return page(request, _TEMPLATE, form=blank(request, role="viewer"), **await _model(visitor, services, after))


@router.post("/members/invite", name="members.invite")
async def make_invitation(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """The link of a new invitation, which is shown once, in this response."""
    command = Invite(visitor.account_id, form.text("role"), form.text("note"))
    made: list[CreatedInvitation] = []

    def work(unit: Unit) -> dict[str, Any]:
        made.append(invite(unit, command))
        return {"id": made[-1].invitation.id}

    try:
        await commit(request, form, work, "control")
    except Refused as error:
        return again(request, _TEMPLATE, form, error, await _model(visitor, services, None), "role", "note")
    if not made:
        return redirect(request, _PATH, "This invitation was made already. Its link is not shown again.")
    link = f"{services.public_url or visitor.site.origin}/invitations/{made[-1].token}"
    return page(request, "members/invited.html", title="Pass this link on", link=link, invitation=made[-1].invitation)


@router.post("/members/invitations/{invitation_id}/revoke", name="members.revoke_invitation")
async def revoke(request: Request, visitor: Visitor, services: ServicesDep, invitation_id: PersonId) -> Response:
    """Make the link worthless."""
    command = InvitationRef(visitor.account_id, invitation_id)
    await services.runner.change(lambda unit: revoke_invitation(unit, command), "control", actor=visitor.actor)
    return redirect(request, _PATH, "The invitation is revoked.")


@router.post("/members/{person_id}/role", name="members.change_role")
async def set_role(
    request: Request, visitor: Visitor, services: ServicesDep, person_id: PersonId, form: SentForm
) -> Response:
    """Give a member another role."""
    command = ChangeRole(visitor.account_id, person_id, form.text("role"))
    try:
        member = await services.runner.change(lambda unit: change_role(unit, command), "control", actor=visitor.actor)
    except Refused as error:
        return await _refused(request, visitor, services, error)
    return redirect(request, _PATH, f"{member.person.email} is {member.role} from now on, and has to sign in again.")


@router.post("/members/{person_id}/reset-password", name="members.reset_password")
async def reset(request: Request, visitor: Visitor, services: ServicesDep, person_id: PersonId) -> Response:
    """A new password, which is shown once, in this response."""
    command = ResetMemberPassword(visitor.member, person_id)
    try:
        made = await reset_member_password(services.runner, services.passwords, command)
    except Refused as error:
        return await _refused(request, visitor, services, error)
    return page(request, "members/password.html", title="Pass this password on", made=made)


@router.post("/members/{person_id}/remove", name="members.remove")
async def remove(request: Request, visitor: Visitor, services: ServicesDep, person_id: PersonId) -> Response:
    """Remove a member, whose sessions end at once."""
    command = MemberRef(visitor.account_id, person_id)
    try:
        await services.runner.change(lambda unit: remove_member(unit, command), "control", actor=visitor.actor)
    except Refused as error:
        return await _refused(request, visitor, services, error)
    return redirect(request, _PATH, "The member is removed.")


@router.post("/members/second-factor", name="members.require_second_factor")
async def require(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """Require a second factor of all members, or not any more."""
    command = RequireSecondFactor(visitor.account_id, required=form.text("required") == "yes")
    await services.runner.change(lambda unit: require_second_factor(unit, command), "control", actor=visitor.actor)
    words = "Every member needs a second factor from now on." if command.required else "Saved"
    return redirect(request, _PATH, words)


@router.post("/members/support-limit", name="members.limit_support")
async def limit(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """Limit how many points support may give or take at once, or not any more."""
    text = form.text("points").replace(",", "")
    points = int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else -1
    before = visitor.member.membership.support_points_limit
    command = LimitSupport(visitor.account_id, points if text else None, before)
    try:
        await services.runner.change(lambda unit: limit_support(unit, command), "control", actor=visitor.actor)
    except Refused as error:
        return await _refused(request, visitor, services, error)
    return redirect(request, _PATH, "Saved")


async def _refused(request: Request, visitor: Visit, services: Services, error: Refused) -> Response:
    """The list with the reason above it."""
    return again(request, _TEMPLATE, blank(request, role="viewer"), error, await _model(visitor, services, None))


async def _model(visitor: Visit, services: Services, after: str | None) -> dict[str, Any]:
    account_id = visitor.account_id

    def look(unit: Unit) -> tuple[list[Any], list[Any]]:
        members = list_members(unit, ListMembers(account_id, after, _PAGE + 1))
        return members, list_invitations(unit, ListInvitations(account_id, None, _PAGE))

    members, invitations = await services.runner.read(look)
    older = f"{_PATH}?after={members[_PAGE - 1].person.id}" if len(members) > _PAGE else None
    return {
        "title": "Members",
        "members": members[:_PAGE],
        "invitations": invitations,
        "more": older,
        "roles": [(each, _MEANINGS[each]) for each in ROLE_NAMES],
        "names": [(each, each.capitalize()) for each in ROLE_NAMES],
        "role_forms": {each.person.id: Form({"role": [each.role]}, "") for each in members},
        "is_required": visitor.member.membership.requires_second_factor,
        "support_limit": visitor.member.membership.support_points_limit,
    }
