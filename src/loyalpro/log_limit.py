"""Bounds how often the same warning or error is logged: one that hits every delivery must not fill the disk with traces."""

from collections import Counter
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from loyalpro.kernel.clock import Clock

WINDOW_S: Final = 10.0
LINES: Final = 20
_LIMITED: Final = frozenset({"warning", "error", "critical"})


class LogLimit:
    """A processor of structlog: of each event, `LINES` warnings or errors pass in `WINDOW_S` seconds.

    The others are dropped and counted; the next line of the event that passes has their number as `left_out`. Lines of
    another level pass.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._passed: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def __call__(self, _logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the line, or raise `DropEvent`."""
        if line.get("level") not in _LIMITED:
            return line
        now_s = self._clock.monotonic_s()
        if now_s - self._began_s >= WINDOW_S:
            self._began_s = now_s
            self._passed.clear()
        event = str(line.get("event"))
        if self._passed[event] >= LINES:
            self._left_out[event] += 1
            raise structlog.DropEvent
        self._passed[event] += 1
        if left_out := self._left_out.pop(event, 0):
            line["left_out"] = left_out
        return line
