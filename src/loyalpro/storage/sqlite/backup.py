"""Copies a SQLite database while a server writes to it. The copy has every change that was acknowledged before it began.

The copy reads one snapshot, in a transaction of its own, so it neither waits for the server nor starts again when the server
writes. Until it ends, the write-ahead log keeps what the server writes meanwhile.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw

from loyalpro.kernel.errors import ConfigurationError

Progress = Callable[[int, int], None]
"""Called with the number of pages that are copied, and the number of all pages."""

_PAGES_PER_STEP: Final = 2_000


def back_up(database: Path, target: Path, report: Progress, *, overwrite: bool = False) -> int:
    """Copy the database to a new file that only this user can read, and check the copy; return its size in bytes.

    The file appears under its name when it is complete and on the disk; an interrupted copy leaves nothing. Raises
    `ConfigurationError` without a database, for a target that exists (unless `overwrite`), or that cannot be written.
    """
    if not database.is_file():
        raise ConfigurationError(
            f"There is no database at {database}; check LOYALPRO_DATA_DIR and LOYALPRO_DATABASE_URL."
        )
    if target.exists() and (not overwrite or target.is_dir() or target.samefile(database)):
        raise ConfigurationError(f"{target} exists; choose another name, or --force to replace an older backup.")
    partial = target.with_name(f"{target.name}.partial")
    try:
        _create(partial)
        _copy(database, partial, report)
        _check(partial)
        _publish(partial, target)
    except (OSError, apsw.Error) as error:
        raise ConfigurationError(f"The backup to {target} failed ({_reason(error)}); nothing was kept.") from None
    finally:
        partial.unlink(missing_ok=True)
    return target.stat().st_size


def _create(partial: Path) -> None:
    """An empty file that only this user can read. One that an interrupted copy left is replaced."""
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _copy(database: Path, partial: Path, report: Progress) -> None:
    source, copy = apsw.Connection(str(database)), apsw.Connection(str(partial))
    with contextlib.closing(source), contextlib.closing(copy):
        source.set_busy_timeout(10_000)
        source.pragma("query_only", True)
        source.execute("BEGIN; SELECT COUNT(*) FROM sqlite_schema")  # the snapshot begins with the first read
        with copy.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(_PAGES_PER_STEP)
                report(backup.page_count - backup.remaining, backup.page_count)
        copy.pragma("journal_mode", "delete")  # one file: a write-ahead log of the copy would be a second one


def _check(partial: Path) -> None:
    with contextlib.closing(apsw.Connection(str(partial), flags=apsw.SQLITE_OPEN_READONLY)) as copy:
        found = copy.pragma("quick_check")
        if found != "ok":
            raise OSError(f"the copy is damaged: {found}")


def _publish(partial: Path, target: Path) -> None:
    """Give the complete copy its name, durably."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
