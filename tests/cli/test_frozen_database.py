"""A database that accepts connections and answers nothing: processes say so, refuse in time, stop in time, and recover."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from support.databases import Databases
from support.postgres import OwnCluster, embedded_binaries, system_binaries
from support.processes import Answer, Running, ask, running, until_ready
from support.proxy import FreezingProxy
from support.server import API_KEY
from support.waiting import until

KEY = {"Authorization": f"Bearer {API_KEY}", "Content_Type": "application/json"}
PURCHASE = {"external_id": "till-1", "amount": 500, "currency": "EUR"}


@pytest.fixture
def proxy(databases: Databases) -> Iterator[FreezingProxy]:
    with FreezingProxy(databases.fresh("postgres")) as forwarding:
        yield forwarding


@contextmanager
def serving(url: str, **settings: Any) -> Iterator[tuple[Running, str]]:
    """`loyalpro serve` and its address, once it is ready."""
    with running("serve", database_url=url, port="0", bootstrap_api_key=API_KEY, **settings) as server:
        address = server.logged("listening")["address"]
        until_ready(address)
        yield server, address


def customer(address: str) -> str:
    answer = ask(address, "POST", "/v1/customers", {}, **KEY)
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


def buy(address: str, customer_id: str, **headers: str) -> Answer:
    return ask(address, "POST", "/v1/transactions", {**PURCHASE, "customer_id": customer_id}, **KEY, **headers)


def is_refused(answer: Answer) -> bool:
    assert answer.status == 503, answer.body
    assert int(answer.headers["retry-after"]) >= 1
    return True


def test_a_server_with_a_frozen_database_says_so_refuses_and_recovers(proxy: FreezingProxy) -> None:
    with serving(proxy.url) as (server, address):
        buyer = customer(address)
        proxy.freeze()
        answers: list[Answer] = []
        early = threading.Thread(target=lambda: answers.append(buy(address, buyer, Idempotency_Key="once")))
        early.start()
        assert until_ready(address, ready=False)["accepts"] is False
        assert ask(address, "GET", "/healthz").status == 200
        assert is_refused(buy(address, buyer))
        assert is_refused(ask(address, "GET", "/v1/customers", **KEY))
        early.join()
        assert is_refused(answers[0])
        proxy.thaw()
        until_ready(address)
        assert (
            until(lambda: buy(address, buyer, Idempotency_Key="once"), lambda answer: answer.status != 503).status
            == 201
        )
        assert buy(address, buyer, Idempotency_Key="once").headers["idempotent-replayed"] == "true"
        assert len(ask(address, "GET", f"/v1/customers/{buyer}/ledger", **KEY).json["data"]) == 1
        server.stop()


def test_a_server_with_a_frozen_database_stops(proxy: FreezingProxy) -> None:
    with serving(proxy.url) as (server, address):
        proxy.freeze()
        until_ready(address, ready=False)
        server.stop()


def test_a_server_stops_while_requests_wait_for_a_database_that_has_just_frozen(proxy: FreezingProxy) -> None:
    with serving(proxy.url) as (server, address):
        buyer = customer(address)
        proxy.freeze()
        answers: list[Answer] = []
        early = threading.Thread(target=lambda: answers.append(buy(address, buyer)))
        early.start()
        server.stop()
        early.join()
        assert is_refused(answers[0])


def test_a_worker_with_a_frozen_database_says_so_recovers_and_stops(proxy: FreezingProxy) -> None:
    with running("worker", database_url=proxy.url, worker_listen="127.0.0.1:0") as worker:
        address = worker.logged("listening")["address"]
        until_ready(address)
        proxy.freeze()
        assert until_ready(address, ready=False)["delivers"] is False
        proxy.thaw()
        until_ready(address)
        proxy.freeze()
        until_ready(address, ready=False)
        worker.stop()


@pytest.fixture
def cluster() -> Iterator[OwnCluster]:
    """A server whose processes the test may stop."""
    binaries = system_binaries() or embedded_binaries()
    assert binaries is not None
    own = OwnCluster(binaries)
    yield own
    own.stop()


def test_a_server_replaces_backends_that_are_frozen(cluster: OwnCluster) -> None:
    """Only they are: the next connections get backends that work."""
    url = cluster.create_database("frozen")
    with serving(url) as (server, address):
        buyer = customer(address)
        with psycopg.connect(url) as session:
            pids = [
                pid
                for (pid,) in session.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'loyalpro' AND state IS NOT NULL"
                )
            ]
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            until_ready(address, ready=False)
            until_ready(address)
            assert until(lambda: buy(address, buyer), lambda answer: answer.status != 503).status == 201
            server.stop()
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def test_a_server_whose_sqlite_file_is_locked_by_another_program_says_so_reads_and_recovers(tmp_path: Path) -> None:
    with serving("", data_dir=str(tmp_path), min_free_mb="0") as (server, address):
        buyer = customer(address)
        intruder = apsw.Connection(str(tmp_path / "loyalpro.db"))
        intruder.execute("BEGIN IMMEDIATE")
        assert until_ready(address, ready=False)["accepts"] is False
        assert is_refused(buy(address, buyer))
        assert ask(address, "GET", f"/v1/customers/{buyer}", **KEY).status == 200
        intruder.execute("ROLLBACK")
        intruder.close()
        until_ready(address)
        assert buy(address, buyer).status == 201
        server.stop()
