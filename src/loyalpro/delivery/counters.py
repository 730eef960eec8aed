"""What is counted of attempts: how many of an endpoint ended in which way, and how long those took that were delivered.

Durations are counted in buckets. Each bucket ends at 1.2 times its beginning, so a percentile that is read from counts is
within 10 % of the exact one.
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.settlement import Attempt

NO_BUCKET: Final = 0
"""The bucket of attempts whose duration is not counted: those that were not delivered."""
_GROWTH: Final = 1.2
_FIRST_MS: Final = 0.1
_LOG_GROWTH: Final = math.log(_GROWTH)
_LAST: Final = 100
"""Begins at about two hours, which no attempt takes."""


class CountedAs(NamedTuple):
    """What an attempt is counted as. `response_status`: the HTTP status of an answer that was no success, else 0.

    A tuple is hashed and sorted several times faster than a record, and each attempt is.
    """

    endpoint_id: str
    outcome: str
    response_status: int
    bucket: int


def counted_as(endpoint_id: str, attempt: Attempt) -> CountedAs:
    """What an attempt is counted as. Only those that were delivered have a bucket, and only the others a status."""
    outcome, response = attempt.outcome, attempt.response
    if outcome is OutcomeCode.SUCCEEDED:
        bucket = NO_BUCKET if attempt.timings is None else bucket_of(attempt.timings.total_ms)
        return CountedAs(endpoint_id, outcome.value, 0, bucket)
    return CountedAs(endpoint_id, outcome.value, 0 if response is None else response.status, NO_BUCKET)


def bucket_of(duration_ms: float) -> int:
    """The bucket of a duration, from 1. Everything up to 0.12 ms is in the first one."""
    if duration_ms <= _FIRST_MS:
        return 1
    return min(_LAST, 1 + int(math.log(duration_ms / _FIRST_MS) / _LOG_GROWTH))


def percentile_ms(buckets: Mapping[int, int], share: float) -> float | None:
    """The duration that this share of all counted durations is not longer than; None when nothing is counted.

    `buckets`: how many durations are in each bucket. `share`: above 0, and at most 1.
    """
    counted = sorted((bucket, count) for bucket, count in buckets.items() if bucket != NO_BUCKET and count)
    rank, passed = math.ceil(share * sum(count for _, count in counted)), 0
    for bucket, count in counted:
        passed += count
        if passed >= rank:
            return _FIRST_MS * math.pow(_GROWTH, bucket - 0.5)
    return None
