"""`loyalpro backup`: a copy of the database while a server writes to it."""

import itertools
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from loyalpro.kernel.errors import ConfigurationError
from loyalpro.storage.sqlite import backup
from support.history import count, query
from support.server import Server

KEY = "a key for tests of enough characters"


def loyalpro(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LOYALPRO_DATABASE_URL": url, "LOYALPRO_SECRET_KEY": KEY}
    return subprocess.run(
        [sys.executable, "-m", "loyalpro", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def test_a_copy_made_under_load_has_everything_that_was_acknowledged_before_it(tmp_path: Path) -> None:
    path, copy = tmp_path / "data" / "loyalpro.db", tmp_path / "copy.db"
    acknowledged: list[str] = []
    stopped = threading.Event()

    def enroll(server: Server) -> None:
        for number in itertools.count():
            if stopped.is_set():
                return
            acknowledged.append(server.post("/v1/customers", {"external_id": f"customer-{number}"})["id"])

    with Server(url_of(path), secret_key=KEY) as server:
        server.post("/v1/webhook_endpoints", {"url": "https://127.0.0.1/hook", "events": ["*"], "status": "paused"})
        writer = threading.Thread(target=enroll, args=(server,))
        writer.start()
        while len(acknowledged) < 20:
            stopped.wait(0.01)
        before = list(acknowledged)
        done = loyalpro("backup", str(copy), url=url_of(path))
        during = len(acknowledged) - len(before)
        stopped.set()
        writer.join()
    assert done.returncode == 0, done.stderr
    assert "copy.db: " in done.stdout
    assert "LOYALPRO_SECRET_KEY" in done.stdout
    assert during > 0, "the server goes on writing while the copy is made"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy.db", "data"]
    restored = tmp_path / "restored" / "loyalpro.db"
    restored.parent.mkdir(0o700)
    shutil.copy(copy, restored)
    with Server(url_of(restored), secret_key=KEY) as server:
        for customer_id in before:
            assert server.get(f"/v1/customers/{customer_id}")["id"] == customer_id
        customers = count(url_of(restored), "customers")
        assert customers >= len(before)
        assert count(url_of(restored), "events", "type = 'customer.created'") == customers
        assert count(url_of(restored), "deliveries") == customers


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "loyalpro.db"
    assert loyalpro("migrate", url=url_of(path)).returncode == 0
    return path


def test_an_existing_file_is_replaced_only_by_force(database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("an older backup")
    refused = loyalpro("backup", str(copy), url=url_of(database))
    assert (refused.returncode, copy.read_text()) == (1, "an older backup")
    assert "--force" in refused.stderr
    assert loyalpro("backup", "--force", str(copy), url=url_of(database)).returncode == 0
    assert query(url_of(copy), "SELECT COUNT(*) FROM accounts") == [(0,)]
    onto_itself = loyalpro("backup", "--force", str(database), url=url_of(database))
    assert (onto_itself.returncode, "exists" in onto_itself.stderr) == (1, True)


@pytest.mark.parametrize(
    ("target", "reason"), [("no/such/folder/copy.db", "No such file or directory"), (".", "exists")]
)
def test_a_target_that_cannot_be_written_is_one_line(database: Path, tmp_path: Path, target: str, reason: str) -> None:
    refused = loyalpro("backup", str(tmp_path / target), url=url_of(database))
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1
    assert reason in refused.stderr


def test_a_copy_that_fails_leaves_nothing(database: Path, tmp_path: Path) -> None:
    def fail(copied: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ConfigurationError, match=r"No space left on device.*nothing was kept"):
        backup.back_up(database, tmp_path / "copy.db", fail)
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("url", "reason"), [("sqlite:////no/database/here.db", "no database"), ("postgresql://u@h/d", "pg_dump")]
)
def test_a_database_that_cannot_be_copied_is_named(tmp_path: Path, url: str, reason: str) -> None:
    refused = loyalpro("backup", str(tmp_path / "copy.db"), url=url)
    assert (refused.returncode, reason in refused.stderr) == (1, True)
