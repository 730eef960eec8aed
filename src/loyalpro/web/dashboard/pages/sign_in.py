"""Signing in and out."""

import contextlib
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from loyalpro.accounts.first_run import is_first_run
from loyalpro.accounts.sign_in import GiveCode, SignIn, enter_code, sign_in, sign_out
from loyalpro.kernel.errors import NotFound, Refused
from loyalpro.web.dashboard.forms import SentForm, blank
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import CODE, SIGN_IN, PageRoute
from loyalpro.web.dashboard.sessions import again, browser_of, forget, go_on
from loyalpro.web.dashboard.site import own_path
from loyalpro.web.dashboard.visits import Visitor
from loyalpro.web.services import ServicesDep

_SIGN_IN: Final = "sign_in/sign_in.html"
_CODE: Final = "sign_in/code.html"
_TITLE: Final[dict[str, Any]] = {"title": "Sign in"}

router = APIRouter(route_class=PageRoute)


@router.get(SIGN_IN, name="sign_in")
async def show(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """The form for e-mail address and password. Without an owner it leads to the first run."""
    wanted = request.query_params.get("next")
    if visitor.signed_in is not None:
        return redirect(request, own_path(wanted))
    if await services.runner.read(is_first_run):
        return redirect(request, "/first-run")
    return page(request, _SIGN_IN, form=blank(request, next=wanted), **_TITLE)


@router.post(SIGN_IN, name="sign_in.password")
async def give_password(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """A web session with a new token, which leads to the code if there is a second factor."""
    command = SignIn(form.text("email"), browser_of(request), form.raw("password"))
    try:
        started = await sign_in(services.runner, services.passwords, command)
    except Refused as error:
        return again(request, _SIGN_IN, form, error, _TITLE)
    if started.session.awaits_code:
        response = go_on(request, visitor, started, CODE)
        response.headers["Location"] += f"?next={form.text('next')}" if form.text("next") else ""
        return response
    return go_on(request, visitor, started, own_path(form.text("next")))


@router.get(CODE, name="sign_in.code")
async def show_code(request: Request, visitor: Visitor) -> Response:
    """The form for the code of the second factor."""
    wanted = request.query_params.get("next")
    if visitor.halfway is None:
        return redirect(request, own_path(wanted))
    return page(request, _CODE, form=blank(request, next=wanted), **_TITLE)


@router.post(CODE, name="sign_in.give_code")
async def give_code(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """The web session with a new token, once the code is right."""
    if visitor.halfway is None:
        return redirect(request, own_path(form.text("next")))
    try:
        started = await enter_code(services.runner, GiveCode(visitor.halfway, form.text("code")))
    except Refused as error:
        return again(request, _CODE, form, error, _TITLE, "code")
    return go_on(request, visitor, started, own_path(form.text("next")))


@router.post("/sign-out", name="sign_out")
async def leave(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """End the web session, also one that awaits its code."""
    who = visitor.halfway or visitor.member
    with contextlib.suppress(NotFound):  # it has ended already
        await services.runner.change(lambda unit: sign_out(unit, who), "control", actor=who.actor)
    return forget(redirect(request, SIGN_IN), visitor)
