"""The free space beside a SQLite file, and a ballast that is thrown off when there is none left.

When the disk is full SQLite can neither check point nor delete: it would have to write to its log first. So a file without
use is kept there. Without it there is room for a while: to write down what was delivered, and to remove what is too old,
which gives pages of the database back to be used again.
"""

import asyncio
import contextlib
import shutil
from pathlib import Path

import structlog

from loyalpro.kernel.clock import UnixMs

_CHUNK = 2**20
BALLAST_BYTES = 32 * _CHUNK
"""Enough for a full log, which goes into the file when it has 16 MB, and for a second one meanwhile."""


def is_enough(free: int, least: int, *, was_enough: bool) -> bool:
    """Some more than the least is needed to resume, so that nothing flickers at the edge."""
    return free >= (least if was_enough else least + least // 8)


class DiskRoom:
    """Satisfies `Room`. `least` is how many bytes have to be free; with 0 nothing is watched, and there is no ballast."""

    def __init__(self, database: Path, least: int) -> None:
        self._folder = database.parent
        self._ballast = database.with_name(database.name + ".ballast")
        self._least = least
        self._log = structlog.get_logger("storage")
        self.enough = True

    def start(self) -> None:
        """Find out before anything is opened: where nothing is free, opening needs what the ballast holds."""
        self._look()
        if not self.enough:
            self.ran_out()

    async def look(self, now: UnixMs) -> bool:  # noqa: ARG002 - a duty is told the time
        """Ask the file system, and put the ballast back when there is room for it."""
        await asyncio.to_thread(self._look)
        return False

    def ran_out(self) -> None:
        """SQLite says that the disk is full: take nothing more in, and throw the ballast off for what is under way."""
        if self._least and (self.enough or self._ballast.exists()):
            self.enough = False
            self._ballast.unlink(missing_ok=True)
            self._log.error("disk_full", folder=str(self._folder), released_mb=BALLAST_BYTES // _CHUNK)

    def _look(self) -> None:
        if not self._least:
            return
        missing = BALLAST_BYTES - self._held()
        free = shutil.disk_usage(self._folder).free - missing
        enough = is_enough(free, self._least, was_enough=self.enough)
        if enough and missing:
            self._take_on()
        if enough != self.enough:
            self._tell(free, enough=enough)
        self.enough = enough

    def _tell(self, free: int, *, enough: bool) -> None:
        facts = {"folder": str(self._folder), "free_mb": free // _CHUNK, "least_mb": self._least // _CHUNK}
        if enough:
            self._log.info("ingestion_resumed", **facts)
        else:
            self._log.error("ingestion_stopped", reason="free some disk space, or lower LOYALPRO_MIN_FREE_MB", **facts)

    def _held(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return self._ballast.stat().st_size
        return 0

    def _take_on(self) -> None:
        """Really written: a file of holes would hold nothing. If it does not fit after all, the next look tries again."""
        try:
            with self._ballast.open("wb") as file:
                for _ in range(0, BALLAST_BYTES, _CHUNK):
                    file.write(bytes(_CHUNK))
        except OSError:
            self._ballast.unlink(missing_ok=True)
