"""A disk that fills up: it is noticed before it is full, what was taken in is finished, and everything resumes by itself."""

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
from loyalpro.storage.sqlite.room import BALLAST_BYTES, is_enough
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


def enrol(server: Server) -> Answer:
    return server.call("POST", "/v1/customers", {"metadata": BIG_METADATA})


def enrol_until_refused(server: Server) -> tuple[int, Answer]:
    """How many customers were taken, and the answer that was none."""
    taken = 0
    while (answer := enrol(server)).status == 201:
        taken += 1
    return taken, answer


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again: what the program does by itself it does within seconds, or the test times out."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.05)


def assert_refused_for_room(server: Server, answer: Answer) -> None:
    assert answer.status == 503
    assert answer.json["code"] == "disk_full"
    assert "disk space" in answer.json["detail"]
    assert answer.headers["retry-after"] == "10"
    ready = server.call("GET", "/readyz")
    assert (ready.status, ready.json["accepts"]) == (503, False)


def test_a_little_more_is_needed_to_resume_than_to_go_on() -> None:
    assert is_enough(80, 80, was_enough=True)
    assert not is_enough(79, 80, was_enough=True)
    assert not is_enough(89, 80, was_enough=False)
    assert is_enough(90, 80, was_enough=False)


def test_256_megabytes_have_to_be_free_unless_the_operator_says_otherwise() -> None:
    assert Settings().min_free_mb == 256


@pytest.mark.parametrize("body", [None, {"status": "paused"}, {"status": "disabled"}])
def test_without_room_what_stops_or_frees_is_let_through(
    store: str, database_url: str, authority: Authority, body: dict[str, str] | None
) -> None:
    with RawServer(answering(500), authority.context()) as receiver:
        server = Server(database_url, authority.ca_file, retry_schedule="3600,3600")
        with server:
            endpoint = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})["id"]
            assert enrol(server).status == 201
            replay = server.post(f"/v1/webhook_endpoints/{endpoint}/replay", {"since": "2020-01-01T00:00:00Z"})["id"]
            [delivery] = server.get("/v1/deliveries")["data"]
            out_of_room(server)
            assert server.call("POST", f"/v1/webhook_endpoints/{endpoint}/replays/{replay}/cancel").status in (200, 409)
            assert server.post(f"/v1/deliveries/{delivery['id']}/cancel", Idempotency_Key="1")["status"] == "canceled"
            if body is None:
                assert server.call("DELETE", f"/v1/webhook_endpoints/{endpoint}").status == 204
            else:
                assert server.call("PATCH", f"/v1/webhook_endpoints/{endpoint}", body).json["status"] == body["status"]


def test_without_room_what_takes_in_or_sends_more_is_refused(
    store: str, database_url: str, authority: Authority
) -> None:
    with RawServer(good, authority.context()) as receiver, Server(database_url, authority.ca_file) as server:
        endpoint = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})["id"]
        customer = enrol(server).json["id"]
        page = server.until("/v1/deliveries", lambda page: page["data"][0]["status"] == "succeeded")
        out_of_room(server)
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


class NoRoom:
    """Satisfies `Room`: there is none, however often one looks."""

    enough = False

    async def look(self, now: UnixMs) -> bool:
        return False


def out_of_room(server: Server) -> None:
    database: Any = server.application.database
    database.room = NoRoom()


# -- SQLite ----------------------------------------------------------------------------------------------------------


@on_a_small_disk
def test_ingestion_stops_before_the_disk_is_full_and_everything_else_goes_on(
    tmp_path: Path, authority: Authority
) -> None:
    with small_disk(tmp_path / "disk", 80) as disk, RawServer(good, authority.context()) as receiver:
        url = f"sqlite:///{disk / 'loyalpro.db'}"
        settings: dict[str, Any] = {"min_free_mb": 8, "sweep_interval": 0.1}
        with Server(url, authority.ca_file, **settings) as server:
            server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
            assert (disk / "loyalpro.db.ballast").stat().st_size == BALLAST_BYTES
            filler = fill(disk, leave=10 * MB)
            taken, refused = enrol_until_refused(server)
            assert taken > 0
            assert_refused_for_room(server, refused)
            assert len(server.get("/v1/customers?limit=100")["data"]) == min(taken, 100)
            receiver.wait_for(taken)
            until(lambda: server.get("/v1/deliveries?status=pending")["data"] == [])
            filler.unlink()
            until(lambda: server.call("GET", "/readyz").json["accepts"])
            assert enrol(server).status == 201


def remove(kind: Aging, before: UnixMs, connection: Connection) -> int:
    return RetentionTables(connection).remove(kind, before)


def blob(size: int) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(
            "INSERT INTO api_keys VALUES (hex(randomblob(8)), 'a', '', randomblob(?), '', 1, NULL)", (size,)
        )

    return work


@contextmanager
def prepared(disk: Path) -> Iterator[str]:
    """A database on the disk with 1,000 old events of 1 KB in it, and an account."""
    url = f"sqlite:///{disk / 'loyalpro.db'}"
    migrate_database(url, SystemClock())
    now = SystemClock().now_ms()
    history = History(url, now)
    history.events(history.endpoint(), 1_000, at=now - 100 * MS_PER_DAY, body=lambda _: b"x" * 1_000)
    with Running(url) as running:
        running.do(lambda connection: connection.execute("INSERT INTO accounts VALUES ('a', 'a', 1)"))
    yield url


class Running:
    """An open database, used from a test that is not asynchronous."""

    def __init__(self, url: str) -> None:
        self.database = open_database(url, SystemClock(), min_free_bytes=4 * MB)
        self._loop = asyncio.new_event_loop()

    def do(self, work: Callable[[Connection], Any], lane: Any = "delivery") -> Any:
        return self._run(self.database.write(work, lane))

    def write_for_ever(self) -> None:
        while True:
            self.do(blob(200_000))

    def look(self) -> None:
        self._run(self.database.room.look(0))

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
def test_when_it_is_full_after_all_the_ballast_goes_and_settling_and_retention_go_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 80) as disk, prepared(disk) as url, Running(url) as running:
        ballast = disk / "loyalpro.db.ballast"
        assert ballast.stat().st_size == BALLAST_BYTES
        fill(disk)
        with pytest.raises(DiskFull):
            running.write_for_ever()
        assert not ballast.exists()
        assert not running.database.room.enough
        running.do(blob(2_000))
        now = SystemClock().now_ms()
        for kind in KINDS:
            while running.do(partial(remove, kind, now)):
                pass
        assert count(url, "events") == 0
        with pytest.raises(DiskFull, match="short of disk space"):
            running.do(blob(10), "ingest")


@on_a_small_disk
def test_the_ballast_is_taken_on_again_when_there_is_room_for_it_and_the_rest(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 80) as disk, prepared(disk) as url, Running(url) as running:
        ballast = disk / "loyalpro.db.ballast"
        filler = fill(disk)
        running.database.room.ran_out()
        running.look()
        assert not ballast.exists()
        filler.unlink()
        fill(disk, leave=4 * MB + BALLAST_BYTES)  # as much as has to be free, but not what it takes to resume
        running.look()
        assert (running.database.room.enough, ballast.exists()) == (False, False)
        filler.unlink()
        running.look()
        assert (running.database.room.enough, ballast.stat().st_size) == (True, BALLAST_BYTES)
        running.do(blob(10), "ingest")


@on_a_small_disk
def test_a_server_starts_on_a_disk_without_any_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 80) as disk, prepared(disk) as url:
        with Running(url):
            fill(disk)
        fill(disk)
        with Running(url) as running:
            assert not running.database.room.enough
            assert not (disk / "loyalpro.db.ballast").exists()
            running.do(blob(2_000))
            with pytest.raises(DiskFull):
                running.do(blob(10), "ingest")


def test_without_a_limit_nothing_is_watched(databases: Databases) -> None:
    url = databases.fresh("sqlite")
    path = Path(url.removeprefix("sqlite:///"))

    async def main() -> None:
        database = open_database(url, SystemClock())
        await database.start()
        await database.room.look(0)
        assert database.room.enough
        await database.stop()

    asyncio.run(main())
    assert not path.with_name("loyalpro.db.ballast").exists()


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


@contextmanager
def database_on(databases: Databases, disk: Path) -> Iterator[str]:
    """A database whose tables stand on this disk; the server's log of changes stands elsewhere."""
    cluster = databases.cluster
    assert isinstance(cluster, OwnCluster), (
        "this test fills a disk of a PostgreSQL on this machine: leave the address out"
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
    """PostgreSQL runs as somebody else, who has to get there."""
    folder.chmod(0o755)
    return folder


@on_a_small_disk
def test_when_the_disk_of_the_server_is_full_ingestion_stops_and_resumes_by_itself(databases: Databases) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        small_disk(open_to_all(Path(folder)) / "disk", 96) as disk,
        database_on(databases, disk) as url,
        Server(url, sweep_interval=0.1) as server,
    ):
        assert enrol(server).status == 201
        filler = fill(disk)
        _, refused = enrol_until_refused(server)
        assert refused.json["code"] == "disk_full"
        assert_refused_for_room(server, enrol(server))
        asyncio.run(server.application.room.look(0))
        assert not server.application.room.enough
        assert server.get("/v1/customers?limit=1")["data"]
        filler.unlink()
        until(lambda: server.call("GET", "/readyz").json["accepts"])
        assert enrol(server).status == 201
