"""Charts of attempts as SVG: pure functions of what was counted. Sizes are attributes, so no style and no script is needed."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.iteration import pull
from loyalpro.kernel.record import record
from loyalpro.web.dashboard.formats import day_of, number
from loyalpro.webhooks.health import Span, Step

_WIDTH: Final = 720
_LEFT: Final = 34
_TOP: Final = 20
_BOTTOM: Final = 160
_FULL: Final = 0.79
"""How much of its place a bar fills."""
_MOST_LABELS: Final = 8
_SPARK_WIDTH: Final = 120
_SPARK_HEIGHT: Final = 26
_SPARK_TOP: Final = 2.0
_SPARK: Final = Markup('<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
_LEAST: Final = 1.5
"""The height of the smallest bar that can be seen."""
_NICE: Final = (1, 2, 3, 5)
_GRID_LINES: Final = 4
_STEPS_BETWEEN: Final[dict[Step, Sequence[int]]] = {
    "minute": (5, 10, 15, 30),
    "hour": (1, 3, 6, 12, 24),
    "day": (1, 2, 5, 7),
}


@record
class Bar:
    """One bar: where it stands, how high its parts are, and what it says. `label` is below it, on some bars."""

    x: float
    width: float
    delivered_y: float
    delivered_height: float
    failed_y: float
    failed_height: float
    says: str
    label: str | None


@record
class Chart:
    """A chart of bars with horizontal lines, each with its height and its number."""

    bars: Sequence[Bar]
    lines: Sequence[tuple[float, str]]
    summary: str


def chart(spans: Sequence[Span], step: Step, zone: tzinfo) -> Chart:
    """The attempts of each span as a bar of two parts. Times are those of the zone."""
    top = nice_top(max((each.delivered + each.failed for each in spans), default=0))
    height = _BOTTOM - _TOP
    place = (_WIDTH - _LEFT) / max(1, len(spans))
    labels = _labels([_local(each.start_at, zone) for each in spans], step)
    bars = []
    for n, (each, label) in enumerate(zip(spans, labels, strict=True)):
        delivered, failed = each.delivered / top * height, each.failed / top * height
        bars.append(
            Bar(
                x=_LEFT + (n + (1 - _FULL) / 2) * place,
                width=place * _FULL,
                delivered_y=_BOTTOM - delivered,
                delivered_height=delivered,
                failed_y=_BOTTOM - delivered - failed,
                failed_height=failed,
                says=f"{when(each.start_at, step, zone)}: {number(each.delivered)} delivered, {number(each.failed)} failed",
                label=label,
            )
        )
    lines = [
        (_BOTTOM - height * n / _GRID_LINES, number(top * n // _GRID_LINES))
        for n in range(_GRID_LINES + 1)
        if top * n % _GRID_LINES == 0
    ]
    return Chart(bars, lines, summary(spans, step))


def sparkline(spans: Sequence[Span]) -> Markup:
    """Small bars without numbers. A span without attempts is a dash on the ground."""
    most = max((each.delivered + each.failed for each in spans), default=0)
    place = _SPARK_WIDTH / max(1, len(spans))
    parts = [_spark_bar(each, n * place, place - 1, most) for n, each in enumerate(spans)]
    delivered, failed = sum(each.delivered for each in spans), sum(each.failed for each in spans)
    says = f"{number(delivered)} delivered, {number(failed)} failed"
    return _SPARK.format(_SPARK_WIDTH, _SPARK_HEIGHT, says, Markup("").join(parts))


def nice_top(most: int) -> int:
    """The number at the top of a chart: the first of 4, 8, 12, 20, 40, 80, 120 ... that is not smaller."""
    unit = 1
    while True:
        for factor in _NICE:
            if factor * unit * _GRID_LINES >= most:
                return factor * unit * _GRID_LINES
        unit *= 10


def when(at: UnixMs, step: Step, zone: tzinfo) -> str:
    """A span in words: `11:00` of an hour or minute with its day, `28 Nov` of a day."""
    local = _local(at, zone)
    return day_of(local.date()) if step == "day" else f"{day_of(local.date())}, {local:%H:%M}"


def summary(spans: Sequence[Span], step: Step) -> str:
    """What a chart shows, for those who do not see it."""
    delivered, failed = sum(each.delivered for each in spans), sum(each.failed for each in spans)
    worst = max(spans, key=lambda each: each.failed, default=None)
    text = f"Attempts by the {step}: {number(delivered)} delivered, {number(failed)} failed."
    if worst is None or not worst.failed:
        return text
    return f"{text} Most failed in one {step}: {number(worst.failed)}."


def _spark_bar(span: Span, x: float, width: float, most: int) -> Markup:
    whole = span.delivered + span.failed
    if not whole:
        return _rect("track", x, _SPARK_HEIGHT - _LEAST, width, _LEAST)
    height = max(_LEAST, (_SPARK_HEIGHT - _SPARK_TOP) * whole / most)
    bad = height * span.failed / whole
    good = height - bad
    rects = [_rect("ok", x, _SPARK_HEIGHT - good, width, good)] if good else []
    rects += [_rect("bad", x, _SPARK_HEIGHT - height, width, bad)] if bad else []
    return Markup("").join(rects)


def _rect(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect class="f-{}" x="{:g}" y="{:.1f}" width="{:g}" height="{:.1f}"/>').format(
        kind, x, y, width, height
    )


def _labels(starts: Sequence[datetime], step: Step) -> list[str | None]:
    """What stands below the bars: at most eight times, at round hours, minutes or days; at a midnight the day."""
    if step == "day":
        every = pull(n for n in (*_STEPS_BETWEEN["day"], len(starts) or 1) if len(starts) / n <= _MOST_LABELS)
        return [day_of(each.date()) if (len(starts) - 1 - n) % every == 0 else None for n, each in enumerate(starts)]
    every = next((n for n in _STEPS_BETWEEN[step] if len(starts) / n <= _MOST_LABELS), _STEPS_BETWEEN[step][-1])
    if step == "minute":
        return [f"{each:%H:%M}" if each.minute % every == 0 else None for each in starts]
    labels: list[str | None] = [_hour_label(starts[0], every)] if starts else []
    return labels + [_hour_label(now, every, before) for before, now in pairwise(starts)]


def _hour_label(at: datetime, every: int, before: datetime | None = None) -> str | None:
    """The hour, or at the first hour of a day the day. An hour that comes twice, at the end of summer time, has one label."""
    if every == max(_STEPS_BETWEEN["hour"]):
        return day_of(at.date()) if before is not None and at.date() != before.date() else None
    return None if at.hour % every or (before is not None and at.hour == before.hour) else f"{at:%H}"


def _local(at: UnixMs, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at // MS_PER_S, UTC).astimezone(zone)
