"""What the tests of the dashboard share: a server with the page of components on each store."""

from collections.abc import Iterator

import pytest

from support.databases import Databases
from support.server import Server


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param), with_components=True) as running:
        yield running
