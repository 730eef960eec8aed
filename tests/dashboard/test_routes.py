"""What every page has: its headers, the check of the host and of forms, and errors as pages. The pages of this file are its own."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter, Request, Response
from structlog.testing import capture_logs

from loyalpro.kernel.errors import (
    Conflict,
    Expired,
    Forbidden,
    InvalidInput,
    LoyalProError,
    NotFound,
    RateLimited,
    Refused,
    StoreUnavailable,
)
from loyalpro.web.dashboard.forms import SentForm, commit, refused
from loyalpro.web.dashboard.render import TEMPLATES, page, redirect
from loyalpro.web.dashboard.rights import PUBLIC, SIGNED_IN, Access
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.toasts import Toast
from loyalpro.web.dashboard.visits import Visitor
from loyalpro.web.unit import Unit
from support.browsing import Surfer
from support.databases import Databases
from support.members import new_member
from support.server import API_KEY, Server

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
ERRORS: dict[str, LoyalProError] = {
    "not_found": NotFound("There is no delivery dlv_x."),
    "conflict": Conflict("The endpoint is paused already."),
    "forbidden": Forbidden("Your role, support, cannot do this. Ask an owner."),
    "expired": Expired("It is gone."),
    "invalid": InvalidInput("This is wrong.", param="url"),
    "limited": RateLimited("Too many tries. Try again in 40 seconds.", retry_after_s=40),
    "unavailable": StoreUnavailable("The database is not available."),
}
WORKED: list[str] = []
router = APIRouter(route_class=PageRoute)
ROWS = {
    "probe.show": Access(PUBLIC),
    "probe.save": Access(PUBLIC),
    "probe.error": Access(PUBLIC, noun="delivery"),
    "probe.crash": Access(PUBLIC),
    "probe.members_only": Access(SIGNED_IN),
    "probe.commit": Access(SIGNED_IN),
    "probe.owners_only": Access("members"),
    "probe.no_post": Access(PUBLIC),
}


@router.get("/probe", name="probe.show")
async def show(request: Request) -> Response:
    return page(request, "components/components.html", title="Probe", text=None, form=_form(), example="", now=0)


@router.post("/probe", name="probe.save")
async def save(request: Request, form: SentForm) -> Response:
    return redirect(request, "/probe", Toast(f"Saved {form.text('name')}", "/probe/undo"))


@router.api_route("/probe/error/{name}", name="probe.error", methods=["GET", "POST"])
async def error(name: str) -> Response:
    raise ERRORS[name]


@router.get("/probe/crash/{token}", name="probe.crash")
async def crash(token: str) -> Response:
    raise ValueError("a secret of the program")


@router.get("/probe/members", name="probe.members_only")
async def members_only(request: Request) -> Response:
    return await show(request)


@router.get("/probe/owners", name="probe.owners_only")
async def owners_only(visitor: Visitor) -> Response:
    return Response(visitor.actor)


@router.post("/probe/commit", name="probe.commit")
async def commit_it(request: Request, form: SentForm) -> Response:
    def work(unit: Unit) -> dict[str, str]:
        WORKED.append(form.text("name"))
        return {"id": f"made {len(WORKED)}"}

    try:
        done, repeated = await commit(request, form, work)
    except Refused as error:
        return page(
            request,
            "errors/error.html",
            title="",
            detail=refused(request, form, error).error,
            request_id=None,
            retry_s=None,
        )
    return Response(f"{done['id']}{' again' if repeated else ''}")


@router.get("/probe/number/{number}", name="probe.no_post")
async def no_post(number: int) -> Response:
    return Response(str(number))


def _form() -> Any:
    from loyalpro.web.dashboard.forms import Form

    return Form({}, "key")


@pytest.fixture(scope="module", params=("sqlite",))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(
        databases.fresh(request.param),
        with_components=True,
        public_url="https://loyalty.example.com",
        trusted_proxies="10.0.0.0/8",
    ) as running:
        running.application.web.include_router(router)
        running.application.web.state.access |= ROWS
        yield running


@pytest.fixture
def visitor(server: Server) -> Surfer:
    return Surfer(server)


def test_every_page_has_the_headers(visitor: Surfer) -> None:
    for path in ("/probe", "/probe/error/not_found", "/probe/crash/x", "/no-such-page"):
        seen = visitor.get(path)
        assert seen.headers["content-security-policy"] == POLICY
        assert seen.headers["cache-control"] == "no-store"
        assert seen.headers["x-content-type-options"] == "nosniff"
        assert seen.headers["referrer-policy"] == "same-origin"
        assert seen.headers["cross-origin-opener-policy"] == "same-origin"
        assert seen.headers["cross-origin-resource-policy"] == "same-origin"
        assert "strict-transport-security" not in seen.headers
        assert seen.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8700", "127.0.0.1", "127.8.8.8:1", "[::1]:8700", "shop.localhost", "loyalty.example.com"],
)
def test_the_public_host_and_those_of_this_machine_are_known(server: Server, host: str) -> None:
    assert Surfer(server, host).get("/probe").status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "loyalty.example.com:8700",
        "loyalty.example.com.evil.example",
        "10.0.0.5",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[::2]",
        "xlocalhost",
        "localhost@evil.example",
        "[::1",
        "loyalty.example.com:443:1",
    ],
)
def test_another_host_is_refused(server: Server, host: str) -> None:
    seen = Surfer(server, host).get("/probe")
    assert seen.status == 400
    assert "LOYALPRO_PUBLIC_URL" in seen.text


def test_cookies_belong_to_this_machine_without_https(visitor: Surfer) -> None:
    cookie = visitor.get("/probe").headers["set-cookie"]
    assert cookie.startswith("loyalpro-form=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie


def test_cookies_are_bound_to_the_host_and_to_https_behind_a_proxy(server: Server) -> None:
    seen = Surfer(server, "loyalty.example.com").get("/probe", X_Forwarded_Proto="https")
    cookie = seen.headers["set-cookie"]
    assert cookie.startswith("__Host-loyalpro-form=")
    assert "Secure" in cookie
    assert "HttpOnly" in cookie
    assert "Domain" not in cookie
    assert seen.headers["strict-transport-security"] == "max-age=31536000"


def test_a_form_over_plain_http_from_elsewhere_is_refused_with_the_reason(server: Server) -> None:
    visitor = Surfer(server, "loyalty.example.com")
    seen = visitor.post("/probe", {"csrf": "x"}, X_Forwarded_Proto="http")
    assert seen.status == 403
    assert "This connection is not encrypted" in seen.text


def test_a_form_is_accepted_once_with_its_token_and_says_what_it_did_on_the_next_page(visitor: Surfer) -> None:
    hidden = visitor.get("/probe").form
    saved = visitor.post("/probe", hidden | {"name": "<b>CRM</b>"})
    assert (saved.status, saved.headers["location"]) == (303, "/probe")
    after = visitor.get("/probe")
    assert "Saved &lt;b&gt;CRM&lt;/b&gt;" in after.text
    assert 'action="/probe/undo"' in after.text
    assert "Saved" not in visitor.get("/probe").text


def test_a_made_up_toast_is_not_shown(visitor: Surfer) -> None:
    visitor.get("/probe")
    visitor.post("/probe", visitor.get("/probe").form)
    sealed = visitor.cookies["loyalpro-toast"]
    for forged in (f"x{sealed}", sealed[:-1] + ("0" if sealed[-1] != "0" else "1"), "x.y", ".", ""):
        visitor.cookies["loyalpro-toast"] = forged
        assert "Saved" not in visitor.get("/probe").text
    other = Surfer(visitor.server)
    other.get("/probe")
    other.cookies["loyalpro-toast"] = sealed
    assert "Saved" not in other.get("/probe").text


def test_a_form_without_its_own_token_is_refused(server: Server, visitor: Surfer) -> None:
    other = Surfer(server)
    for token in ("", "x", "ä", other.get("/probe").form["csrf"]):
        seen = visitor.post("/probe", {"csrf": token})
        assert seen.status == 403
        assert "reload the page" in seen.text


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "SAME-ORIGIN", "x"])
def test_a_form_of_another_site_is_refused(visitor: Surfer, site: str) -> None:
    seen = visitor.post("/probe", dict(visitor.get("/probe").form), Sec_Fetch_Site=site)
    assert seen.status == 403
    assert "another site" in seen.text


def test_a_browser_without_fetch_metadata_is_judged_by_its_origin(visitor: Surfer) -> None:
    form = dict(visitor.get("/probe").form)
    assert visitor.post("/probe", form, Sec_Fetch_Site="").status == 303
    for origin in ("", "null", "https://evil.example", visitor.origin.replace("http", "https"), f"{visitor.origin}0"):
        assert visitor.post("/probe", form, Sec_Fetch_Site="", Origin=origin).status == 403


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
def test_only_a_form_is_a_form(visitor: Surfer, media_type: str) -> None:
    form = dict(visitor.get("/probe").form)
    assert visitor.post("/probe", form, Content_Type=media_type).status == 400


def test_a_form_has_a_limit(visitor: Surfer) -> None:
    form = dict(visitor.get("/probe").form)
    assert visitor.post("/probe", form | {"name": "x" * 300_000}).status == 413


def test_htmx_is_led_by_a_header_and_told_errors_as_text(visitor: Surfer) -> None:
    form = dict(visitor.get("/probe").form)
    saved = visitor.post("/probe", form, HX_Request="true")
    assert (saved.status, saved.headers["hx-redirect"], saved.text) == (204, "/probe", "")
    refused = visitor.post("/probe/error/conflict", form, HX_Request="true")
    assert (refused.status, refused.text) == (409, "The endpoint is paused already.")
    assert refused.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.fixture
def member(server: Server) -> Surfer:
    """A visitor who is signed in as an owner."""
    signed = new_member(server, "owner", f"owner-{len(WORKED)}-{server.application.rng.random()}@example.com")
    return Surfer(server, cookies=dict(signed.browser.cookies))


def test_a_form_that_is_sent_again_changes_nothing_and_gets_the_same_answer(member: Surfer) -> None:
    hidden = member.get("/probe/members").form | {"key": "once"}
    first = member.post("/probe/commit", hidden | {"name": "CRM"})
    again = member.post("/probe/commit", hidden | {"name": "CRM"})
    assert (first.status, again.text) == (200, f"{first.text} again")
    assert WORKED.count("CRM") == 1
    other = member.post("/probe/commit", hidden | {"name": "another"})
    assert "This form was sent already." in other.text
    assert "another" not in WORKED
    assert member.post("/probe/commit", hidden | {"name": "another", "key": "twice"}).status == 200


def test_a_form_without_its_one_time_key_changes_nothing(member: Surfer) -> None:
    hidden = member.get("/probe/members").form
    for key in ("", "x" * 65, "é"):
        assert "Reload the page" in member.post("/probe/commit", hidden | {"name": "no key", "key": key}).text
    assert "no key" not in WORKED


def test_a_right_that_the_role_has_not_is_refused_in_plain_words(server: Server, member: Surfer) -> None:
    assert member.get("/probe/owners").text.startswith("person:usr_")
    viewer = new_member(server, "viewer", "a-viewer@example.com")
    seen = Surfer(server, cookies=dict(viewer.browser.cookies)).get("/probe/owners")
    assert seen.status == 403
    assert "Your role, viewer, cannot do this. Ask an owner." in seen.text


def test_nobody_is_led_to_sign_in_and_back(visitor: Surfer) -> None:
    seen = visitor.get("/probe/members?status=pending&x=%26")
    assert (seen.status, seen.headers["location"]) == (
        303,
        "/sign-in?next=/probe/members%3Fstatus%3Dpending%26x%3D%2526",
    )
    visitor.cookies["loyalpro"] = "unknown"
    assert visitor.get("/probe/members").status == 303


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        (
            "not_found",
            404,
            "There is no such delivery here. It may belong to another account, or be older than the 90 days that are kept.",
        ),
        ("conflict", 409, "The endpoint is paused already."),
        ("forbidden", 403, "Your role, support, cannot do this. Ask an owner."),
        ("expired", 410, "It is gone."),
        ("invalid", 422, "This is wrong."),
        ("limited", 429, "Too many tries. Try again in 40 seconds."),
        (
            "unavailable",
            503,
            "The database does not answer. Nothing that was accepted is lost. Trying again every 5 seconds.",
        ),
    ],
)
def test_an_error_is_a_page_in_plain_words(visitor: Surfer, name: str, status: int, words: str) -> None:
    seen = visitor.get(f"/probe/error/{name}")
    assert seen.status == status
    assert words in seen.text
    assert "dlv_x" not in seen.text


def test_a_page_tries_again_while_the_database_does_not_answer_and_a_form_does_not(visitor: Surfer) -> None:
    seen = visitor.get("/probe/error/unavailable")
    assert '<meta http-equiv="refresh" content="5">' in seen.text
    assert seen.headers["retry-after"] == "5"
    form = dict(visitor.get("/probe").form)
    sent = visitor.post("/probe/error/unavailable", form)
    assert sent.status == 503
    assert "refresh" not in sent.text
    assert "Go back, and send the form again" in sent.text
    assert visitor.get("/probe/error/limited").headers["retry-after"] == "40"


def test_an_error_of_our_own_names_the_request_and_nothing_else(visitor: Surfer) -> None:
    with capture_logs() as logs:
        seen = visitor.get("/probe/crash/token-of-an-invitation")
    assert seen.status == 500
    assert "This went wrong on our side" in seen.text
    assert seen.headers["x-request-id"] in seen.text
    assert "a secret of the program" not in seen.text
    [line] = [each for each in logs if each["event"] == "request_crashed"]
    assert line["route"] == "/probe/crash/{token}"
    assert "token-of-an-invitation" not in repr(logs)


def test_an_address_that_does_not_exist_is_a_page_for_a_browser_and_a_document_for_programs(visitor: Surfer) -> None:
    assert "There is no such page here." in visitor.get("/developers/nothing").text
    assert visitor.get("/probe/number/x").status == 404
    for path in ("/v1/nothing", "/static/style.css"):
        seen = visitor.get(path, Authorization=f"Bearer {API_KEY}")
        assert (seen.status, seen.headers["content-type"]) == (404, "application/problem+json")
    seen = visitor.get("/developers/nothing", Accept="*/*")
    assert seen.headers["content-type"] == "application/problem+json"


def test_a_change_is_not_a_get(visitor: Surfer) -> None:
    assert visitor.request("PUT", "/probe", b"", Accept="text/html").status == 405
    assert visitor.request("POST", "/probe/crash/x", b"", Accept="text/html").status == 405


def test_no_page_is_in_the_document_of_the_api(server: Server) -> None:
    assert [path for path in server.get("/openapi.json")["paths"] if path.startswith(("/probe", "/components"))] == []


def test_a_name_that_a_page_does_not_give_is_an_error() -> None:
    with pytest.raises(Exception, match="'nothing' is undefined"):
        TEMPLATES.from_string("{{ nothing }}").render()
