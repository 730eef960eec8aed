"""Requests on a line of time: from 1 ms to 30 s, on a logarithmic axis of 1,000 units."""

import math
from collections.abc import Sequence
from typing import Final, Literal

from loyalpro.kernel.record import record
from loyalpro.webhooks.entities import PastRequest

WIDTH: Final = 1_000.0
_LONGEST_MS: Final = 30_000.0
_NARROWEST: Final = 2.0
Phase = Literal["dns", "connect", "tls", "wait", "body"]
NAMES: Final[dict[Phase, str]] = {
    "dns": "DNS",
    "connect": "Connect",
    "tls": "TLS",
    "wait": "First byte",
    "body": "Done",
}
"""The phases of a request, in their order, as they are called by what ends them."""


@record
class Bar:
    """A phase on the axis. `hangs`: it never ended."""

    phase: Phase
    x: float
    width: float
    hangs: bool


@record
class Lane:
    """A request on the axis: its bars, how long each phase took in milliseconds (None: not reached, or not needed).

    `kept`: it went over a connection that existed, so it begins at the first byte. `hung`: the phase that never ended.
    """

    bars: Sequence[Bar]
    took_ms: dict[Phase, float | None]
    kept: bool
    hung: Phase | None


def place(ms: float) -> float:
    """Where an instant of a request is on the axis, within it."""
    return round(WIDTH * math.log10(min(max(ms, 1.0), _LONGEST_MS)) / math.log10(_LONGEST_MS), 1)


def lane(request: PastRequest) -> Lane:
    """The phases of a request, from when each ended. Without an answer there was no first byte, whatever was measured."""
    answered = request.response_status is not None
    ends: dict[Phase, float | None] = {
        "dns": request.dns_ms,
        "connect": request.connect_ms,
        "tls": request.tls_ms,
        "wait": request.first_byte_ms if answered else None,
        "body": request.total_ms if answered else None,
    }
    kept = answered and request.connect_ms is None
    bars: list[Bar] = []
    took: dict[Phase, float | None] = {}
    start = 0.0
    for phase, end in ends.items():
        took[phase] = None if end is None else max(0.0, end - start)
        if end is not None:
            bars.append(_bar(phase, start, end))
            start = max(start, end)
    hung = None if answered or request.total_ms is None else _hung(ends)
    if hung is not None and request.total_ms is not None:
        bars.append(_bar(hung, start, request.total_ms, hangs=True))
    return Lane(bars, took, kept, hung)


def _hung(ends: dict[Phase, float | None]) -> Phase:
    """The phase behind the last one that ended."""
    phases = list(ends)
    reached = [phases.index(phase) for phase, end in ends.items() if end is not None]
    return phases[min(max(reached, default=-1) + 1, len(phases) - 1)]


def _bar(phase: Phase, start: float, end: float, *, hangs: bool = False) -> Bar:
    x = place(start)
    return Bar(phase, x, round(max(place(end) - x, _NARROWEST), 1), hangs)
