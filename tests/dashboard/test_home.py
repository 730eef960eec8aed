"""The first page: what needs a person, what is owed, today beside last week, and points that expire."""

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from loyalpro.kernel.clock import unix_ms
from loyalpro.loyalty.activity import compare_days
from loyalpro.loyalty.entities import Activity
from loyalpro.web.dashboard.pages.home import days_compared
from support.databases import Databases
from support.members import new_member
from support.server import Server


@pytest.fixture(params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


def test_the_first_page_of_an_empty_account_shows_the_way_and_then_what_happened(server: Server) -> None:
    owner, viewer = new_member(server, "owner", "ada@example.com"), new_member(server, "viewer", "kai@example.com")
    owner.browser.open("/")
    assert owner.browser.status == 200
    assert all(f'href="{each}"' in owner.browser.text for each in ("/rules", "/imports", "/developers/webhooks/new"))
    viewer.browser.open("/")
    assert 'href="/developers/webhooks/new"' not in viewer.browser.text

    customer = server.post("/v1/customers", {"external_id": "c-1", "name": "Grace Okafor"})
    for _ in range(2):
        server.post("/v1/transactions", {"customer_id": customer["id"], "amount": 15_000, "currency": "EUR"})
    server.post("/v1/redemptions", {"customer_id": customer["id"], "points": 40})
    server.post(
        f"/v1/customers/{customer['id']}/adjustments",
        {"points": 7, "reason_code": "goodwill", "expires_at": soon()},
    )
    owner.browser.open("/")
    text = " ".join(owner.browser.text.split())
    assert "Nothing needs you." in text
    for name, value in (("Customers enrolled", 1), ("Purchases", 2), ("Points earned", 300), ("Points redeemed", 40)):
        figure = text.partition(f"<dt>{name}</dt>")[2].partition("</dd>")[0]
        assert f">{value}<" in figure, figure
        assert "0 last week" in figure
    assert f'href="/customers/{customer["id"]}">Grace Okafor</a>' in text
    assert '<td class="num strong">7</td>' in text
    viewer.browser.open("/")
    assert "Grace Okafor" not in viewer.browser.text

    endpoint = server.post(
        "/v1/webhook_endpoints", {"url": "https://localhost:1024/in", "events": ["*"], "description": "CRM"}
    )
    sent = server.post(f"/v1/webhook_endpoints/{endpoint['id']}/test", {})
    server.until(f"/v1/deliveries/{sent['id']}", lambda found: found["last_outcome"] is not None)
    server.post(f"/v1/webhook_endpoints/{endpoint['id']}/rotate_secret", {})
    owner.browser.open("/")
    assert "CRM has failed" in owner.browser.text
    assert "The old secret of CRM ends soon" in owner.browser.text
    assert f'href="/developers/deliveries?endpoint={endpoint["id"]}&amp;status=pending">1</a>' in owner.browser.text
    assert "Nothing needs you." not in owner.browser.text


def soon() -> str:
    """A time within 30 days."""
    return datetime.fromtimestamp(datetime.now(UTC).timestamp() + 86_400 * 3, UTC).isoformat()


def test_a_day_is_compared_up_to_the_same_time_of_the_clock() -> None:
    """In Berlin the clocks went back between the two days, so their midnights are 169 hours apart."""
    zone = ZoneInfo("Europe/Berlin")
    visitor: Any = SimpleNamespace(now=unix_ms(datetime(2026, 10, 28, 9, 30, tzinfo=zone)), zone=zone)
    found = days_compared(visitor, "acct")
    assert found.today == unix_ms(datetime(2026, 10, 28, tzinfo=zone))
    assert found.earlier == unix_ms(datetime(2026, 10, 21, tzinfo=zone)) == found.today - 169 * 3_600_000
    assert found.earlier_until == unix_ms(datetime(2026, 10, 21, 9, 30, tzinfo=zone))


def test_two_periods_are_counted_up_to_a_limit_and_one_more() -> None:
    asked: list[tuple[Any, ...]] = []
    nothing = Activity(0, 0, 0, 0, 0)

    def activity(*args: Any) -> Activity:
        asked.append(args)
        return nothing

    visitor: Any = SimpleNamespace(now=unix_ms(datetime(2026, 11, 29, 9, tzinfo=UTC)), zone=UTC)
    query = days_compared(visitor, "acct")
    unit = SimpleNamespace(
        now=visitor.now,
        reports=SimpleNamespace(activity=activity),
    )
    assert compare_days(cast("Any", unit), query) == (nothing, nothing)
    assert asked == [
        ("acct", query.today, visitor.now + 1, 5_001),
        ("acct", query.earlier, query.earlier_until, 5_001),
    ]
