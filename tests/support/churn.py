"""Customers with purchases on days of the past, recorded through the API, and churn runs of them."""

import random
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from support.server import Server

Days = Iterable[int]
"""Days with a purchase, counted back from today."""

REGULAR = range(200, 0, -10)
"""Buys every ten days, the last time ten days ago."""
LEAVING = range(200, 99, -10)
"""Bought every ten days, the last time a hundred days ago."""


def today() -> date:
    """The day in the time zone of a new account."""
    return datetime.now(UTC).date()


def ago(days: int) -> str:
    """A day so many days before today, as the API takes it."""
    return (today() - timedelta(days=days)).isoformat()


def record(server: Server, customers: Mapping[str, Days]) -> dict[str, str]:
    """Enroll these customers by external id and record their purchases of 10.00; their ids."""
    ids = {name: server.post("/v1/customers", {"external_id": name})["id"] for name in customers}
    purchases = [
        {"customer_id": ids[name], "amount": 1_000, "currency": "EUR", "occurred_at": f"{ago(day)}T00:00:00Z"}
        for name, days in customers.items()
        for day in days
    ]
    for start in range(0, len(purchases), 1_000):
        answers = server.post("/v1/transactions/batch", {"transactions": purchases[start : start + 1_000]})["data"]
        assert {each["status"] for each in answers} == {201}
    return ids


def run(server: Server, **body: Any) -> Any:
    """Start a run, and wait until it is finished."""
    started = server.post("/v1/churn/runs", body)
    return server.until(f"/v1/churn/runs/{started['id']}", lambda found: found["status"] in ("done", "failed"))


def forget_first_run(server: Server) -> None:
    """Wait until the run that a new server schedules at once is finished: it scores nobody, so it sets no levels."""
    assert run(server)["scored"] == 0


def population() -> dict[str, Days]:
    """240 customers: 120 with one purchase, 60 that keep buying every two weeks, and 60 that stopped 150 days ago."""
    rng = random.Random(5)

    def bought(first: int, last: int) -> list[int]:
        days = [first]
        while (day := days[-1] - rng.randint(7, 21)) > last:
            days.append(day)
        return days

    once: dict[str, Days] = {f"once-{n}": [rng.randint(200, 400)] for n in range(120)}
    kept: dict[str, Days] = {f"keeps-{n}": bought(rng.randint(300, 400), 1) for n in range(60)}
    stopped: dict[str, Days] = {f"stops-{n}": bought(rng.randint(300, 400), 150) for n in range(60)}
    return once | kept | stopped
