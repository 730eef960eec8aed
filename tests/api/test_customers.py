"""Which updates change a customer."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.databases import Databases
from support.server import Server


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (1, True, True),
        (False, 0, True),
        ([{"a": 1}], [{"a": True}], True),
        (1, 1.5, True),
        (1, 1.0, False),
        (True, True, False),
        ({"a": [1, None]}, {"a": [1, None]}, False),
    ],
)
def test_metadata_is_changed_when_its_json_differs(server: Server, before: Any, after: Any, *, changed: bool) -> None:
    customer = server.post("/v1/customers", {"metadata": {"vip": before}})
    path = f"/v1/customers/{customer['id']}"
    answer = server.call("PATCH", path, {"metadata": {"vip": after}})
    assert answer.status == 200
    assert repr(answer.json["metadata"]) == repr(server.get(path)["metadata"])
    if changed:
        assert repr(answer.json["metadata"]) == repr({"vip": after})
        events = server.until(f"/v1/events?customer_id={customer['id']}", lambda page: len(page["data"]) == 2)["data"]
        assert repr(events[1]["data"]["previous_attributes"]) == repr({"metadata": {"vip": before}})
    else:
        assert answer.json == customer
