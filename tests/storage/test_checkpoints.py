"""The write-ahead log of SQLite is copied beside the writer, and stays bounded under a writer that never pauses."""

import asyncio
import itertools
import threading
from pathlib import Path

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.storage.connection import Connection
from loyalpro.storage.open import open_database
from loyalpro.storage.sqlite.checkpoints import LONG_PAGES, LONGEST_PAGES, CheckpointThread
from loyalpro.storage.sqlite.connection import SqliteConnection
from loyalpro.storage.threads import stop
from support.databases import Databases
from support.waiting import until

PAGE_BYTES = 4_096
ROW_BYTES = 400 * PAGE_BYTES
_numbers = itertools.count()


@pytest.fixture
def path(databases: Databases) -> Path:
    return Path(databases.fresh("sqlite").removeprefix("sqlite:///"))


def log_pages(path: Path) -> int:
    """The length of the log file; it does not shrink while the database is open."""
    return path.with_name(f"{path.name}-wal").stat().st_size // PAGE_BYTES


def write(connection: Connection) -> None:
    """Change 400 pages. SQLite does not write a page again that stays the same, so the content differs each time."""
    connection.execute(
        "INSERT INTO accounts (id, name, created_at) VALUES ('large', ?, 1) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        (f"{next(_numbers):08}" * (ROW_BYTES // 8),),
    )


def test_a_server_that_never_pauses_keeps_the_log_bounded(path: Path) -> None:
    async def main() -> int:
        database = open_database(f"sqlite:///{path}", SystemClock())
        await database.start()
        try:
            for _ in range(2 * LONGEST_PAGES * PAGE_BYTES // ROW_BYTES):
                await database.write(write)
            return log_pages(path)
        finally:
            await database.stop()

    pages = asyncio.run(main())
    assert LONG_PAGES < pages < LONGEST_PAGES + 2 * ROW_BYTES // PAGE_BYTES
    assert not path.with_name(f"{path.name}-wal").exists(), "an orderly stop copies and removes the log"


def test_a_long_log_is_copied_beside_the_writer(path: Path) -> None:
    wanted: list[int] = []
    connection = SqliteConnection(path, read_only=False, on_commit=lambda log_pages, _: wanted.append(log_pages))
    while not wanted or wanted[-1] < LONG_PAGES:
        connection.begin()
        write(connection)
        connection.commit()
    assert wanted == sorted(wanted)
    before = path.stat().st_size
    connection.close()
    assert before < LONG_PAGES * PAGE_BYTES, "no commit has copied the log"


def test_the_thread_copies_a_long_log_without_another_commit(path: Path) -> None:
    checkpoints = CheckpointThread(path)
    checkpoints.start()
    connection = SqliteConnection(path, read_only=False, on_commit=checkpoints.committed)
    connection.begin()
    for number in range(LONG_PAGES * PAGE_BYTES // ROW_BYTES + 1):
        insert = "INSERT INTO accounts (id, name, created_at) VALUES (?, ?, 1)"
        connection.execute(insert, (f"large-{number}", "x" * ROW_BYTES))
    before = path.stat().st_size
    connection.commit()
    until(lambda: path.stat().st_size > before + LONG_PAGES * PAGE_BYTES // 2)
    assert stop([checkpoints], SystemClock())
    connection.close()


def test_the_commit_that_makes_the_log_too_long_waits_for_the_copy_under_way(path: Path) -> None:
    checkpoints = CheckpointThread(path)
    connection = SqliteConnection(path, read_only=False, on_commit=checkpoints.committed)

    def write_until_too_long() -> None:
        while log_pages(path) < LONGEST_PAGES:
            connection.begin()
            write(connection)
            connection.commit()

    writer = threading.Thread(target=write_until_too_long)
    with checkpoints.copying:
        writer.start()
        until(lambda: log_pages(path) >= LONGEST_PAGES)
        writer.join(timeout=0.2)
        assert writer.is_alive()
        before = path.stat().st_size
    writer.join()
    assert path.stat().st_size > before, "the commit has copied the log itself"
    connection.close()


def test_a_connection_without_a_thread_copies_the_log_itself(path: Path) -> None:
    connection = SqliteConnection(path, read_only=False)
    for _ in range(2 * LONG_PAGES * PAGE_BYTES // ROW_BYTES):
        connection.begin()
        write(connection)
        connection.commit()
    pages = log_pages(path)
    connection.close()
    assert pages < LONG_PAGES + 2 * ROW_BYTES // PAGE_BYTES
