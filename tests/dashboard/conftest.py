"""What the tests of the dashboard share: a server on each store, and a browser in each process of the suite."""

from collections.abc import Iterator

import pytest

from support.chromium import Browser, Tab
from support.databases import Databases
from support.scenes import Scene
from support.server import Server


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param), with_components=True) as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    running = Browser()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def scene(server: Server) -> Scene:
    return Scene(server)


@pytest.fixture
def tab(chromium: Browser, scene: Scene) -> Iterator[Tab]:
    """A tab at the server, signed in as an owner. The test fails when a page logs, opens a dialog, breaks the policy, or misses a file."""
    token = scene.token("owner")
    opened = chromium.tab(scene.base_url)
    made = chromium.run(opened.__enter__)
    chromium.run(lambda: made.sign_in(token))
    try:
        yield made
        chromium.run(made.require_quiet)
    finally:
        chromium.run(lambda: opened.__exit__(None, None, None))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Run the body of a test that has a browser in the thread of the browser."""
    if "chromium" in pyfuncitem.fixturenames:
        running = pyfuncitem._request.getfixturevalue("chromium")
        test = pyfuncitem.obj
        pyfuncitem.obj = lambda **arguments: running.run(lambda: test(**arguments))
    return (yield)
