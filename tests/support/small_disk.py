"""A small file system for tests that fill it: a tmpfs, mounted by root or in a new namespace."""

import ctypes
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_IN_NAMESPACE = "LOYALPRO_TEST_IN_NAMESPACE"
_NEEDED = "A small file system could not be mounted. Run this test as root, or allow unprivileged user namespaces."


class CannotMount(AssertionError):
    """The kernel refused the mount."""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A mounted file system of this size."""
    folder.mkdir()
    if _LIBC.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=%dm,mode=0777" % megabytes):
        raise CannotMount(f"{_NEEDED} ({os.strerror(ctypes.get_errno())})")
    try:
        yield folder
    finally:
        _LIBC.umount2(bytes(folder), 2)


def on_a_small_disk(test: Callable[..., None]) -> Callable[..., None]:
    """Decorate a test that mounts. Without the right to mount, the test runs in a new namespace that allows it."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            test(*args, **kwargs)
        except CannotMount:
            if _IN_NAMESPACE in os.environ:
                raise
            _run_in_namespace()

    return run


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Fill a disk until `leave` bytes are free; the file that takes the space."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        left = max(0, free - leave)
        while left:
            try:
                left -= file.write(bytes(min(left, 2**16)))
            except OSError:
                break
    return filler


def _run_in_namespace() -> None:
    node = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    command = ["unshare", "--user", "--map-current-user", "--keep-caps", "--mount"]
    command += [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", node]
    try:
        done = subprocess.run(
            command, env={**os.environ, _IN_NAMESPACE: "1"}, capture_output=True, text=True, timeout=110, check=False
        )
    except FileNotFoundError:
        raise CannotMount(f"{_NEEDED} (the command unshare is missing)") from None
    assert done.returncode == 0, f"{_NEEDED}\n{done.stdout}{done.stderr}"
