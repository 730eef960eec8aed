"""The page of components in a browser: every part, in both themes, at every width, with good text and with hostile text."""

from urllib.parse import quote

import pytest

from support.chromium import NARROWEST, THEMES, WIDTHS, Browser, Tab, Theme
from support.scenes import Scene

HOSTILE = (
    "\"'><script>window.ran=1</script><img src=x onerror=window.ran=1><svg onload=window.ran=1>"
    "</textarea></title></style>{{7*7}}${7*7}\u202e\u0000javascript:window.ran=1//"
)


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing(chromium: Browser, scene: Scene, theme: Theme) -> None:
    with chromium.tab(scene.base_url, theme=theme) as tab:
        tab.sign_in(scene.token("owner"))
        tab.open("/components")
        assert tab.violations() == []
        tab.require_quiet()


@pytest.mark.parametrize("width", [*WIDTHS, NARROWEST])
def test_nothing_is_wider_than_the_window(tab: Tab, width: int) -> None:
    tab.page.set_viewport_size({"width": width, "height": 800})
    tab.open("/components")
    assert tab.overflow() <= 0
    tab.open(f"/components?text={quote('A name of many letters without any space ' + 'x' * 255)}")
    assert tab.overflow() <= 0


def test_hostile_text_is_only_text_in_every_part(tab: Tab) -> None:
    page = tab.open(f"/components?text={quote(HOSTILE)}")
    shown = page.evaluate("() => document.body.innerText")
    assert shown.count("<script>window.ran=1</script>") > 20
    assert "\u202e" not in page.content()
    assert "⟨U+202E⟩" in shown
    assert "␀" in shown
    assert page.evaluate("() => window.ran") is None
    assert (
        page.evaluate("() => document.querySelectorAll('main script, main img, main [onload], main [onerror]').length")
        == 0
    )
    assert page.title().startswith("\"'><script>")


def test_a_text_is_copied(tab: Tab) -> None:
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = tab.open("/components")
    page.get_by_role("button", name="Copy secret").click()
    assert page.get_by_text("Copied", exact=True).is_visible()
    assert page.evaluate("() => navigator.clipboard.readText()").startswith("whsec_")


def test_a_dialog_takes_the_focus_and_gives_it_back(tab: Tab) -> None:
    page = tab.open("/components")
    page.locator("[data-dialog=c-delete]").click()
    assert page.get_by_role("dialog").is_visible()
    assert page.evaluate("() => document.activeElement.closest('dialog')?.id") == "c-delete"
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    assert page.evaluate("() => document.activeElement.dataset.dialog") == "c-delete"


def test_keys_move_through_rows_and_show_all_keys(tab: Tab) -> None:
    page = tab.open("/components")
    rows = page.locator("a.row-link")
    page.keyboard.press("j")
    assert rows.nth(0).evaluate("each => each === document.activeElement")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert rows.nth(1).evaluate("each => each === document.activeElement")
    page.keyboard.press("k")
    assert rows.nth(0).evaluate("each => each === document.activeElement")
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0


def test_keys_mean_nothing_in_a_field(tab: Tab) -> None:
    page = tab.open("/components")
    page.get_by_label("Points").fill("")
    page.get_by_label("Points").press_sequentially("jk?")
    assert page.get_by_label("Points").input_value() == "jk?"
    assert page.get_by_role("dialog").count() == 0
    page.keyboard.press("Escape")
    assert page.evaluate("() => document.activeElement === document.body")


def test_the_time_zone_of_the_browser_is_known_from_the_second_page_on(tab: Tab) -> None:
    tab.open("/components")
    assert {each["name"]: each["value"] for each in tab.context.cookies()}["loyalpro-zone"] == "Europe/Berlin"


def test_without_scripts_the_page_is_whole_and_offers_nothing_that_needs_one(chromium: Browser, scene: Scene) -> None:
    with chromium.tab(scene.base_url, scripts=False) as tab:
        tab.sign_in(scene.token("owner"))
        page = tab.open("/components")
        assert page.get_by_role("heading", name="Components").is_visible()
        assert page.get_by_role("button", name="Copy secret").count() == 0
        tab.require_quiet()
