"""A process under test: when it is ready, and what is recorded when it ends."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos import journal
from chaos.journal import Journal
from chaos.product import SECRET_KEY, Product
from support.databases import Databases

Start = Callable[[str], Product]


@pytest.fixture
def notes(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "run.jsonl")


@pytest.fixture
def worker(tmp_path: Path, notes: Journal) -> Iterator[Start]:
    started: list[Product] = []

    def start(url: str) -> Product:
        port = free_port()
        environment = {
            "LOYALPRO_DATABASE_URL": url,
            "LOYALPRO_SECRET_KEY": SECRET_KEY,
            "LOYALPRO_WORKER_LISTEN": f"127.0.0.1:{port}",
        }
        product = Product("worker-1", "worker", environment, tmp_path, port)
        product.start()
        started.append(product)
        return product

    yield start
    for product in started:
        product.stop(notes)


def test_a_worker_that_ends_after_it_was_ready_is_recorded_as_ready(
    worker: Start, databases: Databases, notes: Journal, tmp_path: Path
) -> None:
    product = worker(databases.fresh("postgres"))
    product.wait_until_ready(notes)
    product.kill()
    product.supervise(notes)
    assert [(end["exit_code"], end["was_ready"]) for end in ends(tmp_path)] == [(-9, True)]
    product.wait_until_ready(notes)
    assert product.sender_processes() != []


def test_a_worker_without_a_database_ends_before_it_is_ready_and_is_started_again(
    worker: Start, notes: Journal, tmp_path: Path
) -> None:
    product = worker(f"postgresql://loyalpro@127.0.0.1:{free_port()}/loyalpro")
    while product.ended is None:
        assert not product.is_ready
    product.supervise(notes)
    assert [(end["product"], end["was_ready"]) for end in ends(tmp_path)] == [("worker-1", False)]
    assert product.ended is None


def ends(folder: Path) -> list[dict[str, object]]:
    return list(journal.read(folder / "run.jsonl"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
