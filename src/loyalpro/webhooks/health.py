"""How attempts to endpoints ended in a period, by the minute, the hour or the day: for charts, shares and percentiles.

Everything is summed from counts, so it costs as much for a million attempts as for a hundred.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.counters import percentile_ms
from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.record import record
from loyalpro.webhooks.endpoints import existing_endpoint
from loyalpro.webhooks.entities import Counts
from loyalpro.webhooks.ports import WebhooksUnit

Period = Literal["1h", "24h", "7d", "30d"]
"""The last 60 minutes by the minute, 24 hours by the hour, 168 hours by the hour, 30 days by the day."""
Step = Literal["minute", "hour", "day"]
STEPS: Final[Mapping[Period, Step]] = {"1h": "minute", "24h": "hour", "7d": "hour", "30d": "day"}
_SPANS: Final[Mapping[Period, int]] = {"1h": 60, "24h": 24, "7d": 168, "30d": 30}
_MINUTE_MS: Final = 60 * MS_PER_S
_HOUR_MS: Final = 60 * _MINUTE_MS
_HOURS: Final = 24


@record
class GetStats:
    """Names an endpoint and a period that ends now. The days of `30d` are those of `zone`, from its midnights."""

    account_id: str
    endpoint_id: str
    period: Period = "24h"
    zone: tzinfo = UTC


@record
class Span:
    """How many attempts were delivered and how many failed in the minute, hour or day that begins at `start_at`."""

    start_at: UnixMs
    delivered: int
    failed: int


@record
class Failure:
    """How many attempts failed in one way. `response_status`: the HTTP status of the answer; None without an answer."""

    outcome: str
    response_status: int | None
    attempts: int


@record
class Latency:
    """Durations of the attempts that were delivered, in milliseconds, within 10 %; None when none was."""

    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@record
class Stats:
    """The attempts of one endpoint in a period. `failures`: the most frequent one first. `last_at`: the last attempt."""

    period: Period
    step: Step
    spans: Sequence[Span]
    delivered: int
    failed: int
    latency: Latency
    failures: Sequence[Failure]
    last_at: UnixMs | None

    @property
    def attempts(self) -> int:
        """How many attempts there were."""
        return self.delivered + self.failed


@record
class Day:
    """The attempts of one endpoint in the last 24 hours, by the hour, the earliest first.

    `last_at`: the last attempt, which may be older.
    """

    hours: Sequence[Span]
    delivered: int
    failed: int
    p95_ms: float | None
    last_at: UnixMs | None

    @property
    def attempts(self) -> int:
        """How many attempts there were."""
        return self.delivered + self.failed


@record
class DayOfAll:
    """The last 24 hours of some endpoints, each by its id, and all together."""

    of: Mapping[str, Day]
    delivered: int
    failed: int
    latency: Latency


def get_stats(unit: WebhooksUnit, query: GetStats) -> Stats:
    """How the attempts of one endpoint ended in a period that ends now. Wrongly signed samples do not count."""
    endpoint = existing_endpoint(unit, query.account_id, query.endpoint_id)
    starts = starts_of(query.period, unit.now, query.zone)
    read_ms = _MINUTE_MS if query.period == "1h" else _HOUR_MS
    found = unit.counters.of_endpoint(endpoint.id, starts[0] - starts[0] % read_ms, read_ms)
    failures = Counter[tuple[str, int]]()
    for each in found:
        if not _delivered(each):
            failures[each.outcome, each.response_status] += each.attempts
    spans = _spans(found, starts)
    return Stats(
        period=query.period,
        step=STEPS[query.period],
        spans=spans,
        delivered=sum(each.delivered for each in spans),
        failed=sum(each.failed for each in spans),
        latency=_latency(_buckets((each.bucket, each.attempts) for each in found)),
        failures=[
            Failure(outcome, status or None, attempts)
            for (outcome, status), attempts in sorted(failures.items(), key=lambda each: (-each[1], each[0]))
        ],
        last_at=max((each.last_at for each in found), default=None),
    )


def get_day(unit: WebhooksUnit, endpoint_ids: Sequence[str]) -> DayOfAll:
    """The last 24 hours of these endpoints, by the hour."""
    starts = starts_of("24h", unit.now, UTC)
    place = {start_at: n for n, start_at in enumerate(starts)}
    delivered = {id_: [0] * _HOURS for id_ in endpoint_ids}
    failed = {id_: [0] * _HOURS for id_ in endpoint_ids}
    buckets = {id_: Counter[int]() for id_ in endpoint_ids}
    last: dict[str, UnixMs] = {}
    for each in unit.counters.by_hour(endpoint_ids, starts[0]):
        n = place.get(each.start_at, _HOURS - 1)
        (delivered if each.delivered else failed)[each.endpoint_id][n] += each.attempts
        buckets[each.endpoint_id][each.bucket] += each.attempts
        last[each.endpoint_id] = max(each.last_at, last.get(each.endpoint_id, 0))
    last |= unit.counters.last_before([id_ for id_ in endpoint_ids if id_ not in last])
    of = {
        id_: Day(
            hours=[Span(*each) for each in zip(starts, delivered[id_], failed[id_], strict=True)],
            delivered=sum(delivered[id_]),
            failed=sum(failed[id_]),
            p95_ms=percentile_ms(buckets[id_], 0.95),
            last_at=last.get(id_),
        )
        for id_ in endpoint_ids
    }
    return DayOfAll(
        of,
        delivered=sum(each.delivered for each in of.values()),
        failed=sum(each.failed for each in of.values()),
        latency=_latency(sum(buckets.values(), Counter[int]())),
    )


def delivered_per_s(unit: WebhooksUnit, endpoint_id: str, since: UnixMs) -> float:
    """How many deliveries a second the endpoint has accepted since an instant within the last hour."""
    first = since - since % _MINUTE_MS
    found = unit.counters.of_endpoint(endpoint_id, first, _MINUTE_MS)
    return sum(each.attempts for each in found if _delivered(each)) * MS_PER_S / max(MS_PER_S, unit.now - since)


def starts_of(period: Period, now: UnixMs, zone: tzinfo) -> list[UnixMs]:
    """When the spans of a period begin, the earliest first; the last one holds `now`.

    A day begins at midnight in the zone, so it may have 23 or 25 hours.
    """
    count, step = _SPANS[period], STEPS[period]
    if step == "day":
        today = datetime.fromtimestamp(now // MS_PER_S, UTC).astimezone(zone).date()
        days = [today - timedelta(days=n) for n in range(count - 1, -1, -1)]
        return [int(datetime(each.year, each.month, each.day, tzinfo=zone).timestamp()) * MS_PER_S for each in days]
    step_ms = _MINUTE_MS if step == "minute" else _HOUR_MS
    first = now - now % step_ms - (count - 1) * step_ms
    return [first + n * step_ms for n in range(count)]


def _spans(found: Sequence[Counts], starts: Sequence[UnixMs]) -> list[Span]:
    """The spans with what is counted in them. A count that began before the first span is in that one."""
    delivered, failed = [0] * len(starts), [0] * len(starts)
    for each in found:
        n = max(0, bisect_right(starts, each.start_at) - 1)
        (delivered if _delivered(each) else failed)[n] += each.attempts
    return [Span(*each) for each in zip(starts, delivered, failed, strict=True)]


def _delivered(each: Counts) -> bool:
    return each.outcome == OutcomeCode.SUCCEEDED


def _buckets(counts: Iterable[tuple[int, int]]) -> Counter[int]:
    found = Counter[int]()
    for bucket, attempts in counts:
        found[bucket] += attempts
    return found


def _latency(buckets: Mapping[int, int]) -> Latency:
    return Latency(percentile_ms(buckets, 0.5), percentile_ms(buckets, 0.95), percentile_ms(buckets, 0.99))
