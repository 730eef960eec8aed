"""Waits for what another thread or process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], accept: Callable[[T], bool] = bool, timeout_s: float = 60) -> T:
    """What `look` returns, once `accept` holds for it."""
    deadline_s = time.monotonic() + timeout_s
    while not accept(found := look()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"after {timeout_s} seconds it is still {found}")
        time.sleep(0.05)
    return found
