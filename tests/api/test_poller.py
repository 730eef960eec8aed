"""A poller on `GET /v1/events` gets every event once, in one order, however transactions interleave and commit."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from loyalpro.kernel.clock import SystemClock
from support.databases import Databases
from support.history import lower_transaction_counter
from support.server import Server


class Poller:
    """Follows the list of events from its beginning."""

    def __init__(self, server: Server, limit: int = 100) -> None:
        self._server = server
        self._limit = limit
        self.seen: list[str] = []

    def follow(self, server: Server) -> None:
        """Continue on another server, after the same event."""
        self._server = server

    def poll(self) -> list[str]:
        """The ids of new events."""
        after = f"&after={self.seen[-1]}" if self.seen else ""
        page = self._server.get(f"/v1/events?limit={self._limit}{after}")
        new = [each["id"] for each in page["data"]]
        assert (page["next_cursor"] is None) or page["next_cursor"] == new[-1]
        self.seen += new
        return new

    def catch_up(self) -> list[str]:
        while self.poll():
            pass
        return self.seen


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.fresh("postgres")


@pytest.fixture
def postgres(url: str) -> Iterator[Server]:
    with Server(url) as running:
        yield running


class Writer:
    """A transaction that inserts events and commits late, as another process may."""

    def __init__(self, url: str, account_id: str) -> None:
        self._session = psycopg.connect(url)
        self._account_id = account_id

    def write(self, name: str) -> str:
        """Insert an event whose id sorts by name and not by time; the id."""
        event = f"evt_0{name:0>25}"
        self._session.execute(
            "INSERT INTO events (id, account_id, type, created_at, owed, body) VALUES (%s, %s, 'x', %s, 0, %s)",
            (event, self._account_id, SystemClock().now_ms(), f'{{"id":"{event}"}}'.encode()),
        )
        return event

    def commit(self) -> None:
        self._session.commit()
        self._session.close()

    def roll_back(self) -> None:
        self._session.rollback()
        self._session.close()


@pytest.fixture
def writers(url: str, postgres: Server) -> Callable[[int], list[Writer]]:
    postgres.post("/v1/customers", {})
    shown = postgres.until(
        "/v1/events", lambda view: bool(view["data"])
    )  # the list omits it while an older transaction is open
    account_id = shown["data"][0]["account_id"]
    return lambda count: [Writer(url, account_id) for _ in range(count)]


def test_events_of_a_transaction_that_commits_late_are_listed(
    postgres: Server, writers: Callable[[int], list[Writer]]
) -> None:
    poller = Poller(postgres)
    before = list(poller.catch_up())
    [late] = writers(1)
    held = [late.write("1"), late.write("2")]
    postgres.post("/v1/customers", {})
    assert poller.poll() == [], "later events are listed after those of open transactions"
    held.append(late.write("3"))
    late.commit()
    postgres.wait_until_listed()
    newest = poller.catch_up()[-1]
    assert poller.seen == [*before, *held, newest]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_transactions_may_commit_in_any_order(
    postgres: Server, writers: Callable[[int], list[Writer]], order: tuple[int, ...]
) -> None:
    poller = Poller(postgres, limit=1)
    first, second, third = transactions = writers(3)
    expected = {first.write("1"), second.write("2"), first.write("3"), third.write("4"), second.write("5")}
    last = {first.write("6"), second.write("7"), third.write("8")}
    for number in order:
        transactions[number].commit()
        poller.catch_up()
        postgres.post("/v1/customers", {})
        poller.catch_up()
    postgres.wait_until_listed()
    poller.catch_up()
    assert len(poller.seen) == len(set(poller.seen))
    assert set(poller.seen) >= expected | last
    assert Poller(postgres).catch_up() == poller.seen, "the order never changes"


def test_events_after_a_transaction_that_is_rolled_back_are_listed(
    postgres: Server, writers: Callable[[int], list[Writer]]
) -> None:
    poller = Poller(postgres)
    poller.catch_up()
    [late] = writers(1)
    rolled_back = late.write("1")
    postgres.post("/v1/customers", {})
    assert poller.poll() == []
    late.roll_back()
    postgres.wait_until_listed()
    assert len(poller.poll()) == 1
    assert rolled_back not in poller.seen


def test_no_event_is_skipped_or_repeated_while_several_servers_write(store: str, database_url: str) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(database_url)) for _ in range(2 if store == "postgres" else 1)]
        customers = [
            _write(each, 100 + number) for number, each in enumerate(servers)
        ]  # so that the routes of each server are built
        finished = threading.Event()

        def follow(limit: int) -> list[str]:
            poller = Poller(servers[0], limit)
            while not finished.is_set():
                poller.poll()
            return poller.catch_up()

        with ThreadPoolExecutor(8) as threads:
            pollers = [threads.submit(follow, limit) for limit in (1, 7, 100)]
            writing = [threads.submit(_write, servers[number % len(servers)], number) for number in range(4)]
            customers += [each.result() for each in writing]
            servers[0].wait_until_listed()
            finished.set()
            seen = [each.result() for each in pollers]
        complete = Poller(servers[0]).catch_up()
        assert len(complete) == len(set(complete)) == sum(customers)
        assert seen == [complete] * 3
        assert _is_in_sequence(servers[0])


def test_a_poller_continues_on_a_dump_that_was_restored_on_another_server(url: str) -> None:
    with Server(url) as server:
        _write(server, 1)
        server.wait_until_listed()
        poller = Poller(server)
        before = list(poller.catch_up())
    for _ in range(2):
        lower_transaction_counter(url)
        with Server(url) as server:
            poller.follow(server)
            assert poller.poll() == []
            number = _write(server, len(poller.seen))
            server.wait_until_listed()
            poller.catch_up()
            assert len(poller.seen) == len(set(poller.seen)) == len(before) + number
            assert Poller(server).catch_up() == poller.seen, "old events are listed before new ones"
            before = list(poller.seen)


def _write(server: Server, number: int) -> int:
    """Record single purchases and batches of one customer; the number of events that this causes."""
    server.report_purchases_only()
    customer = server.post("/v1/customers", {"external_id": f"c{number}"})["id"]
    purchase = {"customer_id": customer, "amount": 100, "currency": "EUR"}
    for _ in range(6):
        server.post("/v1/transactions", purchase)
        server.post("/v1/transactions/batch", {"transactions": [purchase] * 5})
    return 1 + 6 * 2 * 6


def _is_in_sequence(server: Server) -> bool:
    sequences: dict[str, list[int]] = {}
    after = ""
    while page := server.listed(f"/v1/events?limit=100{after}")["data"]:
        for each in page:
            data: dict[str, Any] = each["data"]
            customer = data.get("customer_id") or (data.get("customer") or data["transaction"]).get("customer_id")
            sequences.setdefault(customer or data["customer"]["id"], []).append(each["sequence"])
        after = f"&after={page[-1]['id']}"
    return all(sorted(each) == list(range(1, len(each) + 1)) for each in sequences.values())


def test_a_cursor_whose_event_is_no_longer_kept_is_refused(store: str, database_url: str) -> None:
    with Server(database_url) as server:
        server.post("/v1/customers", {})
        for parameter in ("after", "cursor"):
            answer = server.call("GET", f"/v1/events?{parameter}=evt_{'0' * 26}")
            assert (answer.status, answer.json["code"], answer.json["param"]) == (410, "cursor_expired", "after")
        server.wait_until_listed()
        [event] = Poller(server).catch_up()
        assert server.get(f"/v1/events?after={event}") == {"data": [], "next_cursor": None}
