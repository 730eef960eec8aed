"""Reports over the API, on both stores."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from loyalpro.kernel.clock import rfc3339, unix_ms
from loyalpro.loyalty import reports
from support.receivers import Authority
from support.server import Server

DAY = 86_400_000
ACCOUNTS = "SELECT id FROM accounts"


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file) as running:
        yield running


def imported(server: Server, **body: object) -> None:
    job = server.post("/v1/imports", body)
    ended = server.until(f"/v1/imports/{job['id']}", lambda each: each["status"] == "done")
    assert (ended["imported"], ended["refused"]) == (ended["rows"], 0)


def summary(report: dict[str, Any]) -> dict[str, Any]:
    names = ("issued", "redeemed", "expired", "clawed_back", "adjusted", "outstanding", "available", "pending", "debt")
    return {name: report[name] for name in names if report[name]}


def test_liability_as_of_any_time_equals_what_it_was_then(server: Server) -> None:
    """A report after every change, and again at the end for each of these times; and the same in pages of two customers."""
    seen: list[dict[str, Any]] = []

    def look() -> dict[str, Any]:
        report: dict[str, Any] = server.get("/v1/reports/liability")
        assert report["issued"] - report["redeemed"] - report["expired"] - report["clawed_back"] + report[
            "adjusted"
        ] == (report["available"] + report["pending"] - report["debt"])
        assert sum(each["points"] for each in report["by_expiry_month"]) == report["outstanding"]
        seen.append(report)
        now = server.application.clock.now_ms()
        while server.application.clock.now_ms() <= now:
            pass
        return report

    assert summary(look()) == {}
    ids = [server.post("/v1/customers", {"external_id": f"c-{n}"})["id"] for n in range(5)]
    sale = {"amount": 5_600, "currency": "EUR"}
    for n in range(5):
        server.post("/v1/transactions", {"customer_id": ids[n], **sale})
    assert summary(look()) == {"issued": 280, "outstanding": 280, "available": 280}
    rows = [
        {"customer_external_id": "c-0", "points": 9, "expires_at": "2999-01-01T00:00:00Z"},
        {"customer_external_id": "c-1", "points": 5, "earned_at": "2019-01-01T00:00:00Z"},
    ]
    imported(server, kind="balances", rows=rows)
    report = look()
    assert summary(report) == {"issued": 294, "expired": 5, "outstanding": 289, "available": 289}
    assert report["by_expiry_month"][-1] == {"month": "2998-12", "points": 9}
    server.call("DELETE", f"/v1/customers/{ids[2]}")
    assert summary(look()) == {"issued": 294, "expired": 5, "adjusted": -56, "outstanding": 233, "available": 233}
    for report in seen:
        assert server.get(f"/v1/reports/liability?as_of={report['as_of']}") == report
    [(account_id,)] = server.run(server.application.runner.read(lambda unit: unit.connection.execute(ACCOUNTS)))
    as_of = unix_ms(datetime.fromisoformat(seen[-1]["as_of"]))
    paged = server.run(reports.report_liability(server.application.runner, account_id, as_of, customers_per_page=2))
    names = ("issued", "expired", "adjusted", "available", "pending", "debt")
    assert [getattr(paged, name) for name in names] == [seen[-1][name] for name in names]
    assert [points for _, points in paged.by_month] == [each["points"] for each in seen[-1]["by_expiry_month"]]


def test_value_is_exact(server: Server) -> None:
    assert server.call("PATCH", "/v1/program", {"point_value": "0.0075"}).status == 200
    server.post("/v1/customers", {"external_id": "c"})
    server.post("/v1/transactions", {"customer_external_id": "c", "amount": 10**12 - 1, "currency": "EUR"})
    report = server.get("/v1/reports/liability")
    assert (report["outstanding"], report["point_value"]) == (9_999_999_999, "0.0075")
    assert report["value"] == "74999999.9925"


def test_a_report_of_the_future_is_refused(server: Server) -> None:
    answer = server.call("GET", "/v1/reports/liability?as_of=2999-01-01T00:00:00Z")
    assert (answer.status, answer.json["param"]) == (422, "as_of")


def test_points_that_expire_are_listed_page_by_page(server: Server) -> None:
    now = server.application.clock.now_ms()
    imported(server, kind="customers", rows=[{"external_id": f"c-{n}"} for n in range(30)])
    rows = [
        {"customer_external_id": f"c-{n}", "points": 1 + n, "expires_at": rfc3339(now + (1 + n) * DAY)}
        for n in range(30)
    ]
    more = [
        row | {"points": 1_000, "external_id": f"x-{n}", "expires_at": rfc3339(now + 10 * DAY + DAY // 2)}
        for n, row in enumerate(rows)
    ]
    imported(server, kind="balances", rows=rows + more)
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = server.get(f"/v1/reports/expiring?days=10&limit=4{f'&cursor={cursor}' if cursor else ''}")
        found += page["data"]
        cursor = page["next_cursor"]
    assert [(each["customer_external_id"], each["points"]) for each in found] == [(f"c-{n}", 1 + n) for n in range(10)]
    assert found[0]["first_expires_at"] == rows[0]["expires_at"]
    refused = server.call("GET", "/v1/reports/expiring?cursor=x-y")
    assert (refused.status, refused.json["param"]) == (422, "cursor")
