import random

import pytest

from loyalpro.delivery.attempt import OutcomeCode, Response
from loyalpro.delivery.decide import decide, retry_after_ms
from loyalpro.delivery.ports import Attempt, Claimed, Target
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.states import DeliveryStatus

NOW = 1_763_980_200_000
TARGET = Target("we_1", "https://example.com/hook", (), ("whsec_x",), None, ordered=False)


def response(status: int, *headers: tuple[str, str]) -> Response:
    return Response(status, headers, b"", truncated=False)


def decided(outcome: OutcomeCode, *, number: int = 1, schedule: RetrySchedule | None = None) -> DeliveryStatus:
    claimed = Claimed("dlv_1", "evt_1", "points.earned", b"{}", number, NOW, TARGET)
    attempt = Attempt(number, NOW, outcome, "", (), None, None, None)
    chosen = schedule or RetrySchedule()
    return decide(claimed, attempt, now=NOW, schedule=chosen, chance=random.Random(1)).status


def test_only_success_ends_it_well() -> None:
    ends = {outcome: decided(outcome) for outcome in OutcomeCode}
    assert ends.pop(OutcomeCode.SUCCEEDED) is DeliveryStatus.SUCCEEDED
    assert set(ends.values()) == {DeliveryStatus.PENDING}


def test_it_is_exhausted_when_the_schedule_is() -> None:
    assert decided(OutcomeCode.HTTP_5XX, number=3, schedule=RetrySchedule((1.0, 1.0))) is DeliveryStatus.EXHAUSTED


def test_gone_disables_the_endpoint_and_nothing_else_does() -> None:
    claimed = Claimed("dlv_1", "evt_1", "points.earned", b"{}", 1, NOW, TARGET)
    for outcome in OutcomeCode:
        attempt = Attempt(1, NOW, outcome, "", (), None, None, None)
        settlement = decide(claimed, attempt, now=NOW, schedule=RetrySchedule(), chance=random.Random(1))
        assert settlement.disable_endpoint == (outcome is OutcomeCode.GONE)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (response(429, ("Retry-After", "120")), 120_000),
        (response(503, ("retry-after", " 7 ")), 7_000),
        (response(503, ("Retry-After", "Mon, 24 Nov 2025 10:31:00 GMT")), 60_000),
        (response(503, ("Retry-After", "Mon, 24 Nov 2025 10:00:00 GMT")), 0),
        (response(500, ("Retry-After", "120")), None),
        (response(503), None),
        (response(503, ("Retry-After", "soon")), None),
        (response(503, ("Retry-After", "-5")), None),
        (response(503, ("Retry-After", "９")), None),
        (response(429, ("Retry-After", "9" * 4_000)), 999_999_999_000),
        (None, None),
    ],
)
def test_retry_after_is_read_from_seconds_and_dates_and_survives_nonsense(
    given: Response | None, expected: int | None
) -> None:
    assert retry_after_ms(given, NOW) == expected
