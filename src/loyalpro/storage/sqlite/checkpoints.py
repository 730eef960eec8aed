"""Copies the write-ahead log of SQLite into the database beside the writer, so that no commit waits for a copy.

A purchase with many subscribed endpoints changes thousands of pages. SQLite by itself copies them within the commit that makes
the log long. The log is used from its beginning again when a commit finds all of it copied. A writer that never pauses does not
find that, so a commit copies what is left when the log has become several times as long.
"""

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw

LONG_PAGES: Final = 4_000
"""16 MB: a log of this length is copied. A page that changed often by then is copied once."""
LONGEST_PAGES: Final = 16_000
"""64 MB: a log of this length is copied by the commit that has made it so long."""


class CheckpointThread:
    """Satisfies `threads.ConnectedThreads`: one thread with a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wanted = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.copying = threading.Lock()
        """Held for each copy. SQLite refuses a copy while another one is under way."""

    @property
    def threads(self) -> Sequence[threading.Thread]:
        """The thread, once it was started."""
        return [] if self._thread is None else [self._thread]

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="sqlite-checkpoints", daemon=True)
        self._thread.start()

    def committed(self, log_pages: int, database: apsw.Connection) -> None:
        """A commit has made the log this long: wake the thread, or wait for its copy and copy what is left."""
        if log_pages >= LONGEST_PAGES:
            with self.copying:
                copy_log(database)
        elif log_pages >= LONG_PAGES:
            self._wanted.set()

    def request_stop(self) -> None:
        """End after the copy that is under way."""
        self._stopping = True
        self._wanted.set()

    def disconnect(self) -> None:
        """Do nothing: the thread closes its connection."""

    def _run(self) -> None:
        database = apsw.Connection(str(self._path))
        with contextlib.closing(database):
            database.pragma("schema_version")  # a connection that has read nothing yet copies nothing
            while True:
                self._wanted.wait()
                self._wanted.clear()
                if self._stopping:
                    return
                with self.copying:
                    copy_log(database)


def copy_long_log(log_pages: int, database: apsw.Connection) -> None:
    """Copy a log of this length within the commit, if it is long: for a connection beside which no thread copies."""
    if log_pages >= LONG_PAGES:
        copy_log(database)


def copy_log(database: apsw.Connection) -> None:
    """Copy what no reader needs in the log any more. A failure loses nothing, and the next commit tries again."""
    with contextlib.suppress(apsw.Error):
        database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
