"""A disk that fills up: ingestion stops before it is full, accepted work is finished, and ingestion resumes by itself."""

import asyncio
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs
from loyalpro.kernel.errors import DiskFull
from loyalpro.settings import Settings
from loyalpro.storage.connection import Connection
from loyalpro.storage.open import migrate_database, open_database
from loyalpro.storage.sqlite.disk_space import RESERVE_BYTES, is_enough
from loyalpro.storage.tables.retention import Aging, RetentionTables
from support.databases import Databases
from support.history import History, count
from support.postgres import OwnCluster
from support.receivers import Authority, RawServer, answering, good
from support.server import Answer, Server
from support.small_disk import fill, on_a_small_disk, small_disk

MB = 2**20
KINDS: tuple[Aging, ...] = ("attempts", "deliveries", "events")
BIG_METADATA = {"note": "x" * 15_000}


def enroll(server: Server) -> Answer:
    return server.call("POST", "/v1/customers", {"metadata": BIG_METADATA})


def enroll_until_refused(server: Server) -> tuple[int, Answer]:
    """The number of customers that were created, and the first answer that refuses one."""
    created = 0
    while (answer := enroll(server)).status == 201:
        created += 1
    return created, answer


def until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds. What the program does by itself takes seconds; otherwise the test times out."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.05)


def assert_refused_for_disk_space(server: Server, answer: Answer) -> None:
    assert answer.status == 503
    assert answer.json["code"] == "disk_full"
    assert "disk space" in answer.json["detail"]
    assert answer.headers["retry-after"] == "10"
    ready = server.call("GET", "/readyz")
    assert (ready.status, ready.json["accepts"]) == (503, False)


def test_resuming_takes_more_free_space_than_continuing() -> None:
    assert is_enough(80, 80, was_enough=True)
    assert not is_enough(79, 80, was_enough=True)
    assert not is_enough(89, 80, was_enough=False)
    assert is_enough(90, 80, was_enough=False)


def test_256_megabytes_have_to_be_free_by_default() -> None:
    assert Settings().min_free_mb == 256


@pytest.mark.parametrize("body", [None, {"status": "paused"}, {"status": "disabled"}])
def test_calls_that_stop_work_or_free_space_are_accepted_on_a_full_disk(
    store: str, database_url: str, authority: Authority, body: dict[str, str] | None
) -> None:
    with RawServer(answering(500), authority.context()) as receiver:
        server = Server(database_url, authority.ca_file, retry_schedule="3600,3600")
        with server:
            endpoint = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})["id"]
            assert enroll(server).status == 201
            replay = server.post(f"/v1/webhook_endpoints/{endpoint}/replay", {"since": "2020-01-01T00:00:00Z"})["id"]
            [delivery] = server.get("/v1/deliveries")["data"]
            simulate_full_disk(server)
            assert server.call("POST", f"/v1/webhook_endpoints/{endpoint}/replays/{replay}/cancel").status in (200, 409)
            assert server.post(f"/v1/deliveries/{delivery['id']}/cancel", Idempotency_Key="1")["status"] == "canceled"
            if body is None:
                assert server.call("DELETE", f"/v1/webhook_endpoints/{endpoint}").status == 204
            else:
                assert server.call("PATCH", f"/v1/webhook_endpoints/{endpoint}", body).json["status"] == body["status"]


def test_calls_that_add_data_or_deliveries_are_refused_on_a_full_disk(
    store: str, database_url: str, authority: Authority
) -> None:
    with RawServer(good, authority.context()) as receiver, Server(database_url, authority.ca_file) as server:
        endpoint = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})["id"]
        customer = enroll(server).json["id"]
        page = server.until("/v1/deliveries", lambda page: page["data"][0]["status"] == "succeeded")
        simulate_full_disk(server)
        refused = {
            "POST /v1/customers": {},
            f"PATCH /v1/customers/{customer}": {"name": "Ada"},
            f"DELETE /v1/customers/{customer}": None,
            f"POST /v1/deliveries/{page['data'][0]['id']}/retry": None,
            f"POST /v1/webhook_endpoints/{endpoint}/rotate_secret": {},
            f"PATCH /v1/webhook_endpoints/{endpoint}": {"status": "paused", "description": "x"},
            f"PATCH  /v1/webhook_endpoints/{endpoint}": {"status": "enabled"},
        }
        for call, body in refused.items():
            method, path = call.split()
            answer = server.call(method, path, body)
            assert (answer.status, answer.json["code"]) == (503, "disk_full"), call


class NoDiskSpace:
    """Satisfies `DiskSpace`: every check finds too little."""

    is_enough = False

    async def check(self, now: UnixMs) -> bool:
        return False


def simulate_full_disk(server: Server) -> None:
    database: Any = server.application.database
    database.disk_space = NoDiskSpace()


# -- SQLite ----------------------------------------------------------------------------------------------------------


@on_a_small_disk
def test_ingestion_stops_before_the_disk_is_full_and_everything_else_continues(
    tmp_path: Path, authority: Authority
) -> None:
    with small_disk(tmp_path / "disk", 80) as disk, RawServer(good, authority.context()) as receiver:
        url = f"sqlite:///{disk / 'loyalpro.db'}"
        settings: dict[str, Any] = {"min_free_mb": 8, "sweep_interval": 0.1}
        with Server(url, authority.ca_file, **settings) as server:
            server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
            assert (disk / "loyalpro.db.reserve").stat().st_size == RESERVE_BYTES
            filler = fill(disk, leave=10 * MB)
            created, refused = enroll_until_refused(server)
            assert created > 0
            assert_refused_for_disk_space(server, refused)
            assert len(server.get("/v1/customers?limit=100")["data"]) == min(created, 100)
            receiver.wait_for(created)
            until(lambda: server.get("/v1/deliveries?status=pending")["data"] == [])
            filler.unlink()
            until(lambda: server.call("GET", "/readyz").json["accepts"])
            assert enroll(server).status == 201


def remove(kind: Aging, before: UnixMs, connection: Connection) -> int:
    return RetentionTables(connection).remove(kind, before)


def blob(size: int) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(
            "INSERT INTO api_keys (id, account_id, name, digest, hint, created_at)"
            " VALUES (hex(randomblob(8)), 'a', '', randomblob(?), '', 1)",
            (size,),
        )

    return work


@contextmanager
def prepared(disk: Path) -> Iterator[str]:
    """A database on the disk, with an account and 1,000 old events of 1 KB."""
    url = f"sqlite:///{disk / 'loyalpro.db'}"
    migrate_database(url, SystemClock())
    now = SystemClock().now_ms()
    history = History(url, now)
    history.events(history.endpoint(), 1_000, at=now - 100 * MS_PER_DAY, body=lambda _: b"x" * 1_000)
    with Running(url) as running:
        running.do(
            lambda connection: connection.execute("INSERT INTO accounts (id, name, created_at) VALUES ('a', 'a', 1)")
        )
    yield url


class Running:
    """An open database for a test that is not asynchronous."""

    def __init__(self, url: str) -> None:
        self.database = open_database(url, SystemClock(), min_free_bytes=4 * MB)
        self._loop = asyncio.new_event_loop()

    def do(self, work: Callable[[Connection], Any], lane: Any = "delivery") -> Any:
        return self._run(self.database.write(work, lane))

    def write_forever(self) -> None:
        while True:
            self.do(blob(200_000))

    def check(self) -> None:
        self._run(self.database.disk_space.check(0))

    def __enter__(self) -> "Running":
        self._run(self.database.start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self.database.stop())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _run(self, awaitable: Awaitable[Any]) -> Any:
        async def main() -> Any:
            return await awaitable

        return self._loop.run_until_complete(main())


@on_a_small_disk
def test_a_full_disk_deletes_the_reserve_file_so_that_settling_and_retention_continue(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 80) as disk, prepared(disk) as url, Running(url) as running:
        reserve = disk / "loyalpro.db.reserve"
        assert reserve.stat().st_size == RESERVE_BYTES
        fill(disk)
        with pytest.raises(DiskFull):
            running.write_forever()
        assert not reserve.exists()
        assert not running.database.disk_space.is_enough
        running.do(blob(2_000))
        now = SystemClock().now_ms()
        for kind in KINDS:
            while running.do(partial(remove, kind, now)):
                pass
        assert count(url, "events") == 0
        with pytest.raises(DiskFull, match="short of disk space"):
            running.do(blob(10), "ingest")


@on_a_small_disk
def test_the_reserve_file_is_written_again_when_it_and_the_minimum_fit(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 80) as disk, prepared(disk) as url, Running(url) as running:
        reserve = disk / "loyalpro.db.reserve"
        filler = fill(disk)
        running.database.disk_space.ran_out()
        running.check()
        assert not reserve.exists()
        filler.unlink()
        fill(disk, leave=4 * MB + RESERVE_BYTES)  # the minimum for continuing, but too little for resuming
        running.check()
        assert (running.database.disk_space.is_enough, reserve.exists()) == (False, False)
        filler.unlink()
        running.check()
        assert (running.database.disk_space.is_enough, reserve.stat().st_size) == (True, RESERVE_BYTES)
        running.do(blob(10), "ingest")


@on_a_small_disk
def test_a_server_starts_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 80) as disk, prepared(disk) as url:
        with Running(url):
            fill(disk)
        fill(disk)
        with Running(url) as running:
            assert not running.database.disk_space.is_enough
            assert not (disk / "loyalpro.db.reserve").exists()
            running.do(blob(2_000))
            with pytest.raises(DiskFull):
                running.do(blob(10), "ingest")


def test_no_space_is_measured_or_reserved_without_a_minimum(databases: Databases) -> None:
    url = databases.fresh("sqlite")
    path = Path(url.removeprefix("sqlite:///"))

    async def main() -> None:
        database = open_database(url, SystemClock())
        await database.start()
        await database.disk_space.check(0)
        assert database.disk_space.is_enough
        await database.stop()

    asyncio.run(main())
    assert not path.with_name("loyalpro.db.reserve").exists()


@pytest.mark.parametrize("min_free_bytes", [0, MB])
def test_the_reserve_file_of_an_older_version_is_deleted_at_start(databases: Databases, min_free_bytes: int) -> None:
    url = databases.fresh("sqlite")
    former = Path(url.removeprefix("sqlite:///")).with_name("loyalpro.db.ballast")
    former.write_bytes(bytes(MB))

    async def main() -> None:
        database = open_database(url, SystemClock(), min_free_bytes=min_free_bytes)
        await database.start()
        await database.stop()

    asyncio.run(main())
    assert not former.exists()
    assert former.with_name("loyalpro.db.reserve").exists() == bool(min_free_bytes)


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


@contextmanager
def database_on(databases: Databases, disk: Path) -> Iterator[str]:
    """A database whose tables are on this disk; the write-ahead log of the server is on another one."""
    cluster = databases.cluster
    assert isinstance(cluster, OwnCluster), (
        "this test fills the disk of a PostgreSQL server on this machine: leave the address out"
    )
    for parent in [disk, *disk.parents][:-2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    cluster.own(disk)
    url = databases.fresh("postgres")
    name = url.rpartition("/")[2]
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as session:
        session.execute(f"CREATE TABLESPACE small LOCATION '{disk}'".encode())
        session.execute(f'ALTER DATABASE "{name}" SET TABLESPACE small'.encode())
        yield url
        cluster.drop_database(url)
        session.execute("DROP TABLESPACE small")


def open_to_all(folder: Path) -> Path:
    """PostgreSQL runs as another user, who needs to enter the folder."""
    folder.chmod(0o755)
    return folder


@on_a_small_disk
def test_ingestion_stops_and_resumes_with_the_disk_of_the_postgres_server(databases: Databases) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        small_disk(open_to_all(Path(folder)) / "disk", 96) as disk,
        database_on(databases, disk) as url,
        Server(url, sweep_interval=0.1) as server,
    ):
        assert enroll(server).status == 201
        filler = fill(disk)
        _, refused = enroll_until_refused(server)
        assert refused.json["code"] == "disk_full"
        assert_refused_for_disk_space(server, enroll(server))
        asyncio.run(server.application.disk_space.check(0))
        assert not server.application.disk_space.is_enough
        assert server.get("/v1/customers?limit=1")["data"]
        filler.unlink()
        until(lambda: server.call("GET", "/readyz").json["accepts"])
        assert enroll(server).status == 201
