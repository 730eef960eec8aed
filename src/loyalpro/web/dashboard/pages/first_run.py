"""The first run: whoever has the setup code becomes the first owner."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from loyalpro.accounts.first_run import ACTOR, CreateOwner, check_setup, create_owner, is_first_run
from loyalpro.accounts.web_sessions import StartedSession
from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.loyalty.money import MINOR_DIGITS
from loyalpro.loyalty.new_program import localize_program
from loyalpro.web.dashboard.forms import Form, SentForm, blank
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import SIGN_IN, PageRoute
from loyalpro.web.dashboard.sessions import again, browser_of, go_on
from loyalpro.web.dashboard.visits import Visitor
from loyalpro.web.dashboard.zones import ZONES
from loyalpro.web.services import ServicesDep
from loyalpro.web.unit import Unit

_PATH: Final = "/first-run"
_TEMPLATE: Final = "first_run/first_run.html"
_FIELDS: Final = ("setup_code", "email", "password", "again", "business_name", "time_zone", "currency")
_MODEL: Final[dict[str, Any]] = {
    "title": "Welcome",
    "zones": ZONES,
    "currencies": [(each, each) for each in sorted(MINOR_DIGITS)],
}

router = APIRouter(route_class=PageRoute)


@router.get(_PATH, name="first_run")
async def show(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """The form, as long as no owner exists."""
    if not await services.runner.read(is_first_run):
        return redirect(request, SIGN_IN)
    form = blank(request, time_zone=visitor.zone_name, currency="EUR")
    return page(request, _TEMPLATE, form=form, **_MODEL)


@router.post(_PATH, name="first_run.create")
async def create(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """The first owner, who is signed in then."""
    command = _command(request, form)
    try:
        if form.raw("password") != form.raw("again"):
            raise InvalidInput("The two passwords differ.", code="invalid_field", param="again")
        password_hash = await check_setup(services.runner, services.passwords, command)

        def work(unit: Unit) -> StartedSession:
            started = create_owner(unit, command, password_hash)
            localize_program(unit, started.session.account_id, form.text("currency"), command.time_zone)
            return started

        started = await services.runner.change(work, "control", actor=ACTOR)
    except Refused as error:
        return again(request, _TEMPLATE, form, error, _MODEL, *_FIELDS)
    return go_on(request, visitor, started, "/")


def _command(request: Request, form: Form) -> CreateOwner:
    return CreateOwner(
        setup_code=form.text("setup_code"),
        email=form.text("email"),
        password=form.raw("password"),
        business_name=form.text("business_name"),
        time_zone=form.text("time_zone") or None,
        browser=browser_of(request),
    )
