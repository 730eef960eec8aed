"""What app.js adds: polls that rest, a bar for slow requests, times that stay right, forms that are sent once, errors as toasts."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route

from support.chromium import Tab
from support.databases import Databases
from support.server import Server

ADD = """(attributes) => {
  const element = document.createElement(attributes.tag || "div");
  for (const [name, value] of Object.entries(attributes)) if (name !== "tag") element.setAttribute(name, value);
  element.textContent = "added";
  document.querySelector("main").prepend(element);
  htmx.process(element);
}"""


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite"), with_components=True) as running:
        yield running


class Answers:
    """What the server answers to `/rows`: a status, or nothing while it is None."""

    def __init__(self, page: Page) -> None:
        self.status: int | None = 200
        self.asked = 0
        page.route("**/rows", self._answer)

    def _answer(self, route: Route) -> None:
        self.asked += 1
        if self.status is not None:
            route.fulfill(status=self.status, content_type="text/plain", body="what the server says")


def opened(tab: Tab) -> tuple[Page, Answers]:
    tab.page.clock.install()
    page = tab.open("/components")
    return page, Answers(page)


def advance(page: Page, ms: int) -> None:
    """Let time pass for the page."""
    page.clock.run_for(ms)


def poll(page: Page) -> None:
    page.evaluate(ADD, {"hx-get": "/rows", "hx-trigger": "every 1s", "hx-swap": "none", "data-poll": ""})


def until(page: Page, accept: Callable[[], Any]) -> None:
    """Wait for what the browser does by itself, such as the end of a request."""
    for _ in range(200):
        if accept():
            return
        page.wait_for_timeout(20)
    raise AssertionError("it does not happen")


def test_a_list_asks_again_and_again_only_while_somebody_looks(tab: Tab) -> None:
    page, answers = opened(tab)
    poll(page)
    advance(page, 1_000)
    until(page, lambda: answers.asked == 1)
    page.evaluate("() => Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})")
    advance(page, 10_000)
    assert answers.asked == 1
    page.evaluate("() => Object.defineProperty(document, 'hidden', {configurable: true, get: () => false})")
    advance(page, 1_000)
    until(page, lambda: answers.asked == 2)


def test_a_list_asks_less_often_while_the_server_fails(tab: Tab) -> None:
    tab.expect("503")
    page, answers = opened(tab)
    answers.status = 503
    poll(page)
    page.evaluate("() => { window.ended = 0; addEventListener('htmx:afterRequest', () => { window.ended += 1; }); }")
    for _ in range(60):
        advance(page, 1_000)
        until(page, lambda: page.evaluate("() => window.ended") == answers.asked)
    assert 3 <= answers.asked <= 8
    assert page.locator("#toasts .toast").count() == 0


def test_a_failed_request_of_a_person_is_told(tab: Tab) -> None:
    tab.expect("409")
    page, answers = opened(tab)
    answers.status = 500
    tab.expect("500")
    page.evaluate(ADD, {"tag": "button", "hx-get": "/rows", "hx-swap": "none"})
    page.get_by_role("button", name="added").click()
    toast = page.locator("#toasts .toast")
    toast.wait_for()
    assert toast.text_content() == "what the server says"
    advance(page, 10_001)
    assert toast.count() == 0


def test_a_slow_request_shows_a_bar_and_a_quick_one_does_not(tab: Tab) -> None:
    page, answers = opened(tab)
    page.evaluate(ADD, {"tag": "button", "hx-get": "/rows", "hx-swap": "none"})
    page.evaluate("() => addEventListener('htmx:afterRequest', () => { window.ended = true; })")
    page.get_by_role("button", name="added").click()
    until(page, lambda: page.evaluate("() => window.ended"))
    advance(page, 1_000)
    assert page.locator("html.is-slow").count() == 0
    answers.status = None
    page.get_by_role("button", name="added").click()
    advance(page, 400)
    assert page.locator("html.is-slow").count() == 1


def test_times_stay_right(tab: Tab) -> None:
    page, _ = opened(tab)
    shown = page.locator("time[data-relative]")
    assert shown.nth(1).text_content() == "1 min ago"
    advance(page, 60_000)
    assert shown.nth(0).text_content() == "1 min ago"
    assert shown.nth(1).text_content() == "2 min ago"
    advance(page, 3_600_000)
    assert shown.nth(0).text_content() == "1 h ago"


def test_a_form_is_sent_once(tab: Tab) -> None:
    page, _ = opened(tab)
    sent: list[str] = []

    def stay(route: Route) -> None:
        sent.append(route.request.method)
        route.fulfill(status=204)

    page.route("**/components", stay)
    page.get_by_role("button", name="Resend").click(no_wait_after=True)
    until(page, lambda: sent)
    page.get_by_role("button", name="Resend").click(no_wait_after=True)
    page.evaluate("() => fetch('/components', {method: 'PUT'})")
    assert sent == ["POST", "PUT"]


def test_nothing_that_htmx_would_need_eval_for_runs(tab: Tab) -> None:
    tab.expect("eval|Evaluat|unsafe|htmx|Content Security Policy")
    page, answers = opened(tab)
    page.evaluate(
        ADD,
        {
            "tag": "button",
            "hx-get": "/rows",
            "hx-vals": "js:{ran: window.ran = 1}",
            "hx-on:click": "window.ran = 2",
            "hx-swap": "none",
        },
    )
    page.get_by_role("button", name="added").click()
    until(page, lambda: answers.asked >= 0)
    assert page.evaluate("() => window.ran") is None
