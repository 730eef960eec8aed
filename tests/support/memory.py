"""Where the databases of tests are kept."""

import os
import shutil
from pathlib import Path

_ROOM_BYTES = 6 << 30
"""What the databases of a test run and its processes have room in, with as many processes as there are cores on a small machine."""


def memory() -> Path | None:
    """The folder of files in memory, where an fsync is called and costs nothing; None on a system without one with room."""
    shm = Path("/dev/shm")
    return shm if os.access(shm, os.W_OK) and min(shutil.disk_usage(shm).free, _free_bytes()) > _ROOM_BYTES else None


def _free_bytes() -> int:
    """The memory that processes can still take: of the machine, and of the container if one has a limit."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
        free = min(free, int(most) - int(used.read_text()))
    return free
