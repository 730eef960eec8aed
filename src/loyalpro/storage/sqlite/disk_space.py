"""The free space beside a SQLite file, and a reserve file that is deleted when no space is left.

SQLite can neither checkpoint nor delete on a full disk, because both write to its log first. A file without content of
value therefore reserves space. Deleting it frees enough to record the outcome of deliveries and to remove old rows, whose
pages SQLite then uses again.
"""

import contextlib
import shutil
from pathlib import Path

import structlog

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.threads import in_daemon_thread

_MIB = 2**20
RESERVE_BYTES = 32 * _MIB
"""Enough for a full log, which SQLite copies into the database at 16 MB, and for a second one that fills meanwhile."""


def is_enough(free_bytes: int, min_free_bytes: int, *, was_enough: bool) -> bool:
    """Whether ingestion may run. Resuming takes an eighth more than continuing, so that the state does not flicker."""
    return free_bytes >= (min_free_bytes if was_enough else min_free_bytes + min_free_bytes // 8)


class FolderDiskSpace:
    """Satisfies `DiskSpace` for the file system of a database file.

    `min_free_bytes` have to stay free. With 0 nothing is measured and no reserve file is kept.
    """

    def __init__(self, database: Path, min_free_bytes: int) -> None:
        self._folder = database.parent
        self._reserve = database.with_name(database.name + ".reserve")
        self._former_reserve = database.with_name(database.name + ".ballast")
        self._min_free_bytes = min_free_bytes
        self._log = structlog.get_logger("storage")
        self.is_enough = True

    def start(self) -> None:
        """Measure before the database is opened: on a full disk, opening it needs the space of the reserve file."""
        self._former_reserve.unlink(missing_ok=True)  # the reserve file of older versions: nothing else would delete it
        self._measure()
        if not self.is_enough:
            self.ran_out()

    async def check(self, now: UnixMs) -> bool:  # noqa: ARG002 - the signature of a periodic job
        """Measure the file system, and write the reserve file again when there is space for it."""
        await in_daemon_thread(self._measure)
        return False

    def ran_out(self) -> None:
        """SQLite has reported a full disk: stop ingestion, and delete the reserve file for the work in progress."""
        if self._min_free_bytes and (self.is_enough or self._reserve.exists()):
            self.is_enough = False
            self._reserve.unlink(missing_ok=True)
            self._log.error("disk_full", folder=str(self._folder), released_mb=RESERVE_BYTES // _MIB)

    def _measure(self) -> None:
        if not self._min_free_bytes:
            return
        missing = RESERVE_BYTES - self._reserved_bytes()
        free = shutil.disk_usage(self._folder).free - missing
        enough = is_enough(free, self._min_free_bytes, was_enough=self.is_enough)
        if enough and missing:
            self._write_reserve()
        if enough != self.is_enough:
            self._log_change(free, enough=enough)
        self.is_enough = enough

    def _reserved_bytes(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return self._reserve.stat().st_size
        return 0

    def _write_reserve(self) -> None:
        """Write real bytes, because a sparse file reserves nothing. If the disk is too full, the next check tries again."""
        try:
            self._reserve.touch(mode=0o600)
            with self._reserve.open("wb") as file:
                for _ in range(0, RESERVE_BYTES, _MIB):
                    file.write(bytes(_MIB))
        except OSError:
            self._reserve.unlink(missing_ok=True)

    def _log_change(self, free_bytes: int, *, enough: bool) -> None:
        facts = {
            "folder": str(self._folder),
            "free_mb": free_bytes // _MIB,
            "least_mb": self._min_free_bytes // _MIB,
        }
        if enough:
            self._log.info("ingestion_resumed", **facts)
        else:
            self._log.error("ingestion_stopped", reason="free some disk space, or lower LOYALPRO_MIN_FREE_MB", **facts)
