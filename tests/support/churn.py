"""Customers with purchases on days of the past, recorded through the API, and churn runs of them."""

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.loyalty.churn.entities import ChurnRun
from loyalpro.loyalty.churn.settings import ChurnSettings
from loyalpro.loyalty.expiry import date_of
from support.customers import commit
from support.history import ACCOUNT, History, insert, query
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
    return server.until(f"/v1/churn/runs/{started['id']}", lambda found: found["status"] in ("done", "failed"), 90)


def await_first_run(server: Server) -> None:
    """Wait until the run that a new server schedules at once is finished. It scores no customer, so it sets no levels."""
    done = "SELECT low + medium + high FROM churn_runs WHERE status = 'done' AND requested = 0"
    while not (scored := server.run(server.application.runner.read(lambda unit: unit.connection.execute(done)))):
        pass
    assert scored == [(0,)]


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


class Scored:
    """An account of a database without a server, whose customers get days with purchases directly. `now`: what they count from."""

    def __init__(self, url: str, now: UnixMs) -> None:
        self.url = url
        self.now = now
        self._history = History(url, now)

    def add(self, customers: Sequence[Days]) -> list[str]:
        """Customers with purchases on these days, in the order of their ids."""
        known = set(self.customers())
        self._history.purchases(len(customers))
        ids = sorted(set(self.customers()) - known)
        days: list[tuple[object, ...]] = [
            (id_, self.now // MS_PER_DAY - day, ACCOUNT, 1, 1_000)
            for id_, bought in zip(ids, customers, strict=True)
            for day in bought
        ]
        insert(self.url, "customer_days", "customer_id, day, account_id, purchases, spend", days)
        return ids

    def customers(self) -> list[str]:
        """The ids of all customers."""
        return [id_ for (id_,) in query(self.url, "SELECT id FROM customers ORDER BY id")]

    def request(self, *, days_ago: int = 0) -> str:
        """Store a run that emits; its id."""
        run = ChurnRun(
            id=self._history.ids.new("job"),
            account_id=ACCOUNT,
            as_of=date_of(self.now // MS_PER_DAY - days_ago),
            requested=True,
            baseline=False,
            actor="key:test",
            created_at=self.now,
        )
        commit(self.url, lambda unit: unit.churn.insert_run(run))
        return run.id

    def schedule_none(self) -> None:
        """Keep the account from having scheduled runs."""
        commit(self.url, lambda unit: unit.churn.put_settings(ACCOUNT, ChurnSettings(enabled=False), self.now))

    def runs(self) -> list[Any]:
        """Status, announcement, customers with a score, and events of each run, oldest first."""
        sql = "SELECT status, announcement, low + medium + high, events FROM churn_runs ORDER BY id"
        return query(self.url, sql)

    def announced(self) -> list[str]:
        """The customer of each `churn.risk`, sorted."""
        sql = "SELECT customer_id FROM events WHERE type = 'churn.risk' ORDER BY customer_id"
        return [id_ for (id_,) in query(self.url, sql)]

    def levels(self) -> dict[str, str]:
        """The stored level of each customer."""
        return dict(query(self.url, "SELECT customer_id, level FROM churn_scores"))
