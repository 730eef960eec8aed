"""The same warning or error has a bounded number of log lines, and the next one says how many were left out."""

from typing import Any

import structlog

from loyalpro.kernel.clock import VirtualClock
from loyalpro.log_limit import LINES, WINDOW_S, LogLimit


def logged(limit: LogLimit, event: str, level: str = "error") -> dict[str, Any] | None:
    """The line that passes; None when it is dropped."""
    try:
        return dict(limit(None, level, {"event": event, "level": level}))
    except structlog.DropEvent:
        return None


def test_of_a_storm_of_errors_a_few_lines_pass_and_the_next_one_counts_the_others() -> None:
    clock = VirtualClock()
    limit = LogLimit(clock)
    lines = [logged(limit, "attempt_crashed") for _ in range(1_000)]
    assert [each is not None for each in lines] == [True] * LINES + [False] * (1_000 - LINES)
    assert logged(limit, "lease_lost", "warning") == {"event": "lease_lost", "level": "warning"}
    assert all(logged(limit, "request", "info") for _ in range(1_000))
    clock.advance(WINDOW_S)
    assert logged(limit, "attempt_crashed") == {"event": "attempt_crashed", "level": "error", "left_out": 1_000 - LINES}
    assert logged(limit, "attempt_crashed") == {"event": "attempt_crashed", "level": "error"}
