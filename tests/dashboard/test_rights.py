"""Every route of the dashboard has a row that says what it needs."""

import pytest
from fastapi import FastAPI

from loyalpro.web.dashboard import dashboard
from loyalpro.web.dashboard.rights import PUBLIC, SIGNED_IN, Access, require_complete


def test_a_route_without_a_row_refuses_the_start() -> None:
    with pytest.raises(TypeError, match=r"have no row in web/dashboard/rights\.py: webhooks\.list\."):
        require_complete(["sign_in", "webhooks.list"], {"sign_in": Access(PUBLIC)})


def test_a_row_without_a_route_refuses_the_start() -> None:
    with pytest.raises(TypeError, match=r"rows of web/dashboard/rights\.py have no route: webhooks\.list\."):
        require_complete([], {"webhooks.list": Access("endpoints.see")})


def test_two_routes_with_one_name_refuse_the_start() -> None:
    with pytest.raises(TypeError, match=r"more than one route of the dashboard: sign_in\."):
        require_complete(["sign_in", "sign_in"], {"sign_in": Access(PUBLIC)})


def test_only_a_right_is_one() -> None:
    assert Access(SIGNED_IN).right is None
    assert Access("endpoints.change").right == "endpoints.change"


def test_the_page_of_components_exists_in_development_only() -> None:
    for with_components in (True, False):
        app = FastAPI()
        dashboard.install(app, with_components=with_components)
        assert ("/components" in app.state.page_paths) is with_components
