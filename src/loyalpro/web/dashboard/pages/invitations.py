"""The page of an invitation: somebody joins an account, as a new person or as one who is signed in."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from loyalpro.accounts.invitations import (
    JoinAsNewPerson,
    OpenInvitation,
    find_invitation,
    join_as_member,
    join_as_new_person,
)
from loyalpro.kernel.errors import InvalidInput, NotFound, Refused
from loyalpro.web.dashboard.forms import SentForm, blank
from loyalpro.web.dashboard.render import page
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.sessions import again, browser_of, go_on
from loyalpro.web.dashboard.visits import Visitor
from loyalpro.web.services import ServicesDep

_TEMPLATE: Final = "invitations/invitation.html"
_FIELDS: Final = ("email", "name", "password", "again")
Token = Annotated[str, Path(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get("/invitations/{token}", name="invitation")
async def show(request: Request, services: ServicesDep, token: Token) -> Response:
    """Who invites to what; a form for a new person, and a button for one who is signed in."""
    try:
        opened = await services.runner.read(lambda unit: find_invitation(unit, token))
    except NotFound as error:
        return _gone(request, error)
    return page(request, _TEMPLATE, form=blank(request), **_model(token, opened))


@router.post("/invitations/{token}", name="invitation.new_person")
async def join_new(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm, token: Token) -> Response:
    """A new person, who is signed in then."""
    command = JoinAsNewPerson(
        token=token,
        email=form.text("email"),
        name=form.text("name"),
        password=form.raw("password"),
        browser=browser_of(request),
        time_zone=visitor.zone_name if visitor.zone_name != "UTC" else None,
    )
    try:
        opened = await services.runner.read(lambda unit: find_invitation(unit, token))
    except NotFound as error:
        return _gone(request, error)
    try:
        if form.raw("password") != form.raw("again"):
            raise InvalidInput("The two passwords differ.", code="invalid_field", param="again")
        started = await join_as_new_person(services.runner, services.passwords, command)
    except NotFound as error:
        return _gone(request, error)
    except Refused as error:
        return again(request, _TEMPLATE, form, error, _model(token, opened), *_FIELDS)
    return go_on(request, visitor, started, "/")


@router.post("/invitations/{token}/join", name="invitation.join")
async def join(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm, token: Token) -> Response:
    """One more account for the person who is signed in."""
    who = visitor.member
    try:
        opened = await services.runner.read(lambda unit: find_invitation(unit, token))
        started = await services.runner.change(
            lambda unit: join_as_member(unit, token, who), "control", actor=who.actor
        )
    except NotFound as error:
        return _gone(request, error)
    except Refused as error:
        return again(request, _TEMPLATE, form, error, _model(token, opened))
    return go_on(request, visitor, started, "/")


def _model(token: str, opened: OpenInvitation) -> dict[str, Any]:
    return {"title": "Invitation", "token": token, "opened": opened}


def _gone(request: Request, error: NotFound) -> Response:
    return page(request, "invitations/gone.html", title="Invitation", status=404, detail=error.detail)
