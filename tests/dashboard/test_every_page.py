"""Every page in every state: axe finds nothing, nothing is wider than the window, and the browser logs nothing."""

from collections.abc import Iterator

import pytest

from support.chromium import NARROWEST, Browser
from support.databases import Databases
from support.scenes import LOOKS, Scene
from support.server import Server


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite"), with_components=True) as running:
        yield running


@pytest.mark.parametrize("name", LOOKS)
def test_everybody_can_use_the_page(chromium: Browser, scene: Scene, name: str) -> None:
    look = LOOKS[name]
    path = look.address(scene)
    with chromium.tab(scene.base_url, theme="dark") as tab:
        if look.role is not None:
            tab.sign_in(scene.token(look.role))
        if look.expects is not None:
            tab.expect(look.expects)
        tab.open(path)
        assert tab.violations() == []
        tab.page.set_viewport_size({"width": NARROWEST, "height": 700})
        assert tab.overflow() <= 0
        tab.require_quiet()
