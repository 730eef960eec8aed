"""The frame around each page: the sidebar, the person, the theme, and the way by keyboard."""

from collections.abc import Iterator

import pytest

from loyalpro.accounts.people import UpdatePerson, update_person
from support.chromium import Browser, Tab
from support.databases import Databases
from support.members import new_member
from support.scenes import Scene
from support.server import Server


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite"), with_components=True) as running:
        yield running


def places(tab: Tab) -> list[str]:
    return [each.strip() for each in tab.page.locator("nav.nav a").all_text_contents()]


def test_the_sidebar_shows_pages_that_exist_and_that_the_role_may_see(
    chromium: Browser, scene: Scene, tab: Tab
) -> None:
    tab.open("/components")
    shown = places(tab)
    assert {"API keys", "Members"} <= set(shown)
    paths = scene.server.application.web.state.page_paths
    assert all(link.get_attribute("href") in paths for link in tab.page.locator("nav.nav a").all())
    with chromium.tab(scene.base_url) as other:
        other.sign_in(scene.token("viewer"))
        other.open("/components")
        assert set(places(other)) & {"API keys", "Members"} == set()


def test_the_sidebar_marks_where_one_is(tab: Tab) -> None:
    page = tab.open("/members")
    assert page.locator("nav.nav a[aria-current=page]").all_text_contents() == ["Members"]


def test_on_a_narrow_window_a_button_opens_the_sidebar(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 390, "height": 800})
    page = tab.open("/components")
    assert not page.locator("#sidebar").is_visible()
    page.get_by_role("button", name="Menu").click()
    assert page.locator("#sidebar").is_visible()
    assert tab.violations() == []
    page.keyboard.press("Escape")
    assert not page.locator("#sidebar").is_visible()


def test_the_first_stop_of_the_keyboard_skips_to_the_content(tab: Tab) -> None:
    page = tab.open("/components")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"


def test_the_theme_and_the_keys_are_those_of_the_person(chromium: Browser, server: Server) -> None:
    signed = new_member(server, "owner", "dark@example.com", None)

    command = UpdatePerson(signed.person.id, "Ada", None, "dark", shortcuts=False)
    server.run(server.application.runner.change(lambda unit: update_person(unit, command)))
    with chromium.tab(f"http://127.0.0.1:{server.port}") as tab:
        tab.sign_in(signed.browser.cookies["loyalpro"])
        page = tab.open("/components")
        assert page.evaluate("() => getComputedStyle(document.body).colorScheme") == "dark"
        page.keyboard.press("?")
        assert page.get_by_role("dialog").count() == 0
        tab.require_quiet()
