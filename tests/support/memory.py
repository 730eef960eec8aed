"""Where the databases of tests are kept."""

import os
import shutil
from pathlib import Path

_ROOM = 4 << 30
"""Bytes that the databases of a test run have room in, with as many processes as there are cores on a small machine."""


def memory() -> Path | None:
    """The folder of files in memory, where an fsync is called and costs nothing; None on a system without one with room."""
    shm = Path("/dev/shm")
    return shm if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > _ROOM else None
