"""A person's own pages: settings, password, web sessions, second factor, and the proof of who one is."""

import io
from typing import Annotated, Any, Final

import segno
from fastapi import APIRouter, Path, Request, Response
from markupsafe import Markup

from loyalpro.accounts.password_changes import ChangePassword, change_password
from loyalpro.accounts.people import UpdatePerson, update_person
from loyalpro.accounts.second_factor import (
    ConfirmSecondFactor,
    PendingSecondFactor,
    begin_second_factor,
    confirm_second_factor,
    count_recovery_codes,
    pending_second_factor,
    remove_second_factor,
    renew_recovery_codes,
)
from loyalpro.accounts.sign_in import GiveCode, GivePassword, count_code, prove_with_code, prove_with_password
from loyalpro.accounts.web_sessions import (
    EndSession,
    SwitchAccount,
    end_web_session,
    end_web_sessions,
    list_web_sessions,
    switch_account,
)
from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.web.dashboard.browsers import name_of
from loyalpro.web.dashboard.forms import Form, SentForm, blank
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PROOF, SECOND_FACTOR, PageRoute
from loyalpro.web.dashboard.sessions import again, go_on, keep, renew
from loyalpro.web.dashboard.site import own_path
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.dashboard.zones import ZONES
from loyalpro.web.services import Services, ServicesDep

_ME: Final = "/me"
_SESSIONS: Final = "/me/sessions"
_TEMPLATE: Final = "me/me.html"
_FACTOR: Final = "me/second_factor.html"
_PROOF: Final = "me/proof.html"
_SETTINGS: Final = ("name", "time_zone", "theme", "shortcuts")
_PASSWORD: Final = ("password", "new", "again")
_THEMES: Final = [("system", "As the browser says"), ("light", "Light"), ("dark", "Dark")]
_PROOF_TITLE: Final[dict[str, Any]] = {"title": "Confirm it is you"}
_QR_BORDER: Final = 2

SessionId = Annotated[str, Path(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get(_ME, name="me")
async def show(request: Request, visitor: Visitor) -> Response:
    """Settings and password."""
    return page(request, _TEMPLATE, **_me(request, visitor))


@router.post(_ME, name="me.update")
async def update(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """Change the settings."""
    person = visitor.member.person
    command = UpdatePerson(
        person.id,
        form.text("name"),
        form.text("time_zone") or None,
        form.text("theme"),
        shortcuts=form.checked("shortcuts"),
    )
    try:
        await services.runner.change(lambda unit: update_person(unit, command), "control", actor=visitor.actor)
    except Refused as error:
        return again(request, _TEMPLATE, form, error, _me(request, visitor, settings=form), *_SETTINGS)
    return redirect(request, _ME, "Saved")


@router.post("/me/password", name="me.change_password")
async def update_password(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """Change the password, which signs out everywhere else."""
    command = ChangePassword(visitor.member, form.raw("password"), form.raw("new"))
    try:
        if form.raw("new") != form.raw("again"):
            raise InvalidInput("The two passwords differ.", code="invalid_field", param="again")
        started = await change_password(services.runner, services.passwords, command)
    except Refused as error:
        return again(request, _TEMPLATE, form, error, _me(request, visitor, password=form), *_PASSWORD)
    return go_on(request, visitor, started, _ME, "The password is changed. You are signed out everywhere else.")


@router.post("/me/switch", name="me.switch")
async def switch(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """Go on in another account."""
    command = SwitchAccount(visitor.member, form.text("account"))
    started = await services.runner.change(lambda unit: switch_account(unit, command), "control", actor=visitor.actor)
    return go_on(request, visitor, started, "/")


@router.get(PROOF, name="me.proof")
async def ask_for_proof(request: Request, visitor: Visitor) -> Response:
    """The form that asks for the password, or for a code, before something that needs it."""
    return page(
        request,
        _PROOF,
        form=blank(request, next=request.query_params.get("next")),
        has_code=visitor.member.person.has_second_factor,
        **_PROOF_TITLE,
    )


@router.post(PROOF, name="me.prove")
async def prove(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """A fresh proof, which leads back to where it was asked for."""
    who = visitor.member
    try:
        if form.text("code"):
            started = await prove_with_code(services.runner, GiveCode(who, form.text("code")))
        else:
            command = GivePassword(who, form.raw("password"))
            started = await prove_with_password(services.runner, services.passwords, command)
    except Refused as error:
        model = {"has_code": who.person.has_second_factor, **_PROOF_TITLE}
        return again(request, _PROOF, form, error, model, "password", "code")
    return go_on(request, visitor, started, own_path(form.text("next")))


@router.get(_SESSIONS, name="me.sessions")
async def show_sessions(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """Where the person is signed in."""
    who = visitor.member
    found = await services.runner.read(lambda unit: list_web_sessions(unit, who.person.id))
    names = {each.account_id: each.account_name for each in (who.membership, *who.others)}
    rows = [(each, name_of(each.user_agent), names.get(each.account_id, "")) for each in found]
    return page(request, "me/sessions.html", title="Sessions", rows=rows, here=who.session.id)


@router.post("/me/sessions/end-others", name="me.sessions.end_others")
async def end_others(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """Sign out everywhere else."""
    who = visitor.member
    ended = await services.runner.change(
        lambda unit: end_web_sessions(unit, who.person.id, keep_id=who.session.id), "control", actor=who.actor
    )
    return redirect(request, _SESSIONS, "Signed out everywhere else." if ended else "There is no other session.")


@router.post("/me/sessions/{session_id}/end", name="me.sessions.end")
async def end_session(request: Request, visitor: Visitor, services: ServicesDep, session_id: SessionId) -> Response:
    """Sign out one browser."""
    command = EndSession(visitor.member.person.id, session_id)
    await services.runner.change(lambda unit: end_web_session(unit, command), "control", actor=visitor.actor)
    return redirect(request, _SESSIONS, "Signed out there.")


@router.get(SECOND_FACTOR, name="me.second_factor")
async def show_factor(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """Whether there is a second factor, and how to add one."""
    return page(request, _FACTOR, form=blank(request), **await _factor(visitor, services))


@router.post("/me/second-factor/begin", name="me.second_factor.begin")
async def begin_factor(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """A secret that waits for its first code."""
    person = visitor.member.person
    await services.runner.change(lambda unit: begin_second_factor(unit, person), "control", actor=visitor.actor)
    return redirect(request, SECOND_FACTOR)


@router.post("/me/second-factor/confirm", name="me.second_factor.confirm")
async def confirm_factor(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """The recovery codes, which are shown once, in this response."""
    who = visitor.member
    command = ConfirmSecondFactor(who, form.text("code"))
    try:
        await count_code(services.runner, who.person)
        added = await services.runner.change(
            lambda unit: confirm_second_factor(unit, command), "control", actor=who.actor
        )
    except Refused as error:
        return again(request, _FACTOR, form, error, await _factor(visitor, services), "code")
    renewed = renew(request, visitor, added.started)
    return keep(_codes(request, added.recovery_codes), renewed, added.started)


@router.post("/me/second-factor/recovery-codes", name="me.second_factor.renew_codes")
async def renew_codes(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """New recovery codes, which are shown once, in this response."""
    person_id = visitor.member.person.id
    codes = await services.runner.change(
        lambda unit: renew_recovery_codes(unit, person_id), "control", actor=visitor.actor
    )
    return _codes(request, codes)


@router.post("/me/second-factor/remove", name="me.second_factor.remove")
async def remove_factor(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """No second factor any more."""
    person_id = visitor.member.person.id
    await services.runner.change(lambda unit: remove_second_factor(unit, person_id), "control", actor=visitor.actor)
    return redirect(request, SECOND_FACTOR, "The second factor is removed.")


def _me(
    request: Request, visitor: Visit, *, settings: Form | None = None, password: Form | None = None
) -> dict[str, Any]:
    """What the page shows. One of its two forms may be the one that was refused."""
    person = visitor.member.person
    stored = blank(
        request,
        name=person.name,
        time_zone=person.time_zone or "",
        theme=person.theme,
        shortcuts="on" if person.shortcuts else None,
    )
    return {
        "title": "You",
        "person": person,
        "stored": stored,
        "form": stored,
        "refused": "settings" if settings is not None else "password" if password is not None else None,
        "zones": [("", "That of the browser"), *ZONES],
        "themes": _THEMES,
    }


async def _factor(visitor: Visit, services: Services) -> dict[str, Any]:
    person = visitor.member.person

    def look(unit: Any) -> tuple[PendingSecondFactor | None, int]:
        return pending_second_factor(unit, person), count_recovery_codes(unit, person.id)

    pending, codes = await services.runner.read(look)
    return {
        "title": "Second factor",
        "person": person,
        "pending": pending,
        "image": None if pending is None else _qr(pending.uri),
        "codes_left": codes,
        "is_required": visitor.member.membership.requires_second_factor,
    }


def _codes(request: Request, codes: tuple[str, ...]) -> Response:
    return page(request, "me/recovery_codes.html", title="Recovery codes", codes=codes)


def _qr(text: str) -> Markup:
    """A QR code as SVG, without a script and without a style: dark on light in both themes, as cameras need it."""
    drawn = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        drawn,
        kind="svg",
        scale=4,
        border=_QR_BORDER,
        xmldecl=False,
        svgns=False,
        light="white",
        svgclass="qr",
        lineclass=None,
    )
    return Markup(drawn.getvalue().decode())  # noqa: S704 - the library drew it, and no text is in it
