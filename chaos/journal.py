"""Append-only files of JSON lines, which the parts of a run write and the checker reads."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def now_ms() -> float:
    """Milliseconds since 1970; all parts of a run are on the same machine."""
    return time.time() * 1_000


class Journal:
    """One file. Lines of several threads do not mix, because each line is one write."""

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._durable = durable

    def write(self, kind: str, **fields: Any) -> None:
        """Write one line; with `durable`, it is on the disk when this returns."""
        line = json.dumps({"kind": kind, "at": now_ms()} | fields, separators=(",", ":"))
        os.write(self._fd, line.encode() + b"\n")
        if self._durable:
            os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every line of a file. An incomplete line is an error, because no writer of a journal is killed."""
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)
