import random
from dataclasses import replace

import pytest

from loyalpro.delivery.attempt import OutcomeCode, Response, Timings
from loyalpro.delivery.breaker import HEALTHY
from loyalpro.delivery.claims import Claimed, Fallback, Target
from loyalpro.delivery.decide import decide, refuses_signature, retry_after_ms
from loyalpro.delivery.rotation import others, primary_secret
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.settlement import Attempt, SentRequest, Settlement
from loyalpro.delivery.states import DeliveryStatus

NOW = 1_763_980_200_000
TARGET = Target(
    "we_1", "acct_1", "https://example.com/hook", (), ("whsec_x",), 0, rate_limit=None, ordered=False, health=HEALTHY
)


def response(status: int, *headers: tuple[str, str]) -> Response:
    return Response(status, headers, b"", truncated=False)


def claimed(number: int = 1, fallback: Fallback | None = None, target: Target = TARGET) -> Claimed:
    return Claimed(
        "dlv_1", "evt_1", "points.earned", b"{}", number, number, NOW, None, fallback, probe=False, target=target
    )


def decided(
    outcome: OutcomeCode,
    *,
    number: int = 1,
    schedule: RetrySchedule | None = None,
    fallback: Fallback | None = None,
    answer: Response | None = None,
) -> Settlement:
    attempt = Attempt(number, NOW, outcome, "", (), answer, None, None)
    chosen = schedule or RetrySchedule()
    return decide(claimed(number, fallback), attempt, now=NOW, schedule=chosen, rng=random.Random(1))


def test_only_a_success_ends_a_delivery_as_succeeded() -> None:
    ends = {outcome: decided(outcome).status for outcome in OutcomeCode}
    assert ends.pop(OutcomeCode.SUCCEEDED) is DeliveryStatus.SUCCEEDED
    assert set(ends.values()) == {DeliveryStatus.PENDING}


def test_a_delivery_is_exhausted_when_its_schedule_has_ended() -> None:
    ended = decided(OutcomeCode.HTTP_5XX, number=3, schedule=RetrySchedule((1.0, 1.0)))
    assert ended.status is DeliveryStatus.EXHAUSTED


def test_only_the_outcome_gone_marks_the_endpoint_as_gone() -> None:
    assert {outcome for outcome in OutcomeCode if decided(outcome).gone} == {OutcomeCode.GONE}


@pytest.mark.parametrize(
    "before", [Fallback(DeliveryStatus.PENDING, NOW + 77), Fallback(DeliveryStatus.EXHAUSTED, None)]
)
def test_a_manual_attempt_restores_the_state_on_failure_and_ends_the_delivery_on_success(before: Fallback) -> None:
    failed = decided(OutcomeCode.HTTP_5XX, fallback=before)
    assert (failed.status, failed.scheduled) == (before.status, False)
    assert failed.due_at == before.due_at or before.due_at is None
    assert decided(OutcomeCode.SUCCEEDED, fallback=before).status is DeliveryStatus.SUCCEEDED


def test_a_retry_after_pauses_the_endpoint_and_delays_the_delivery() -> None:
    asked = decided(OutcomeCode.HTTP_4XX, answer=response(429, ("Retry-After", "7")))
    assert asked.hold_ms == 7_000
    assert asked.due_at is not None
    assert asked.due_at >= NOW + 7_000


def test_three_statuses_may_mean_that_the_receiver_knows_another_secret() -> None:
    timings = Timings(None, None, None, None, 1.0)
    requests = {
        status: SentRequest(NOW, OutcomeCode.HTTP_4XX, "", (), response(status), None, timings)
        for status in range(200, 600)
    }
    assert [status for status, each in requests.items() if refuses_signature(each)] == [400, 401, 403]
    assert not refuses_signature(SentRequest(NOW, OutcomeCode.TIMEOUT, "", (), None, None, timings))


@pytest.mark.parametrize(("secret", "promoted"), [(None, None), (0, 9), (1, 7), (3, None)])
def test_a_newer_secret_that_was_accepted_is_promoted_and_an_older_one_is_not(
    secret: int | None, promoted: int | None
) -> None:
    rotating = replace(TARGET, secrets=("whsec_x",) * 4, versions=(9, 7, 4, 3), primary=2)
    attempt = Attempt(1, NOW, OutcomeCode.SUCCEEDED, "", (), response(200), None, None)
    settlement = decide(
        claimed(target=rotating), attempt, now=NOW, schedule=RetrySchedule(), rng=random.Random(1), secret=secret
    )
    assert settlement.promoted == promoted


@pytest.mark.parametrize(
    ("promoted_at", "index"),
    [((5,), 0), ((None,), 0), ((None, 5), 1), ((None, 7, 5), 1), ((None, None), 1), ((9, None, 5), 0)],
)
def test_the_primary_secret_is_the_newest_promoted_one_or_else_the_oldest(
    promoted_at: tuple[int | None, ...], index: int
) -> None:
    assert primary_secret(promoted_at) == index


def test_every_other_secret_is_tried_newest_first_and_each_attempt_begins_with_another() -> None:
    assert others(1, 0, 1) == ()
    assert others(4, 2, 1) == (0, 1, 3)
    for count in range(2, 6):
        for primary in range(count):
            orders = [others(count, primary, attempt) for attempt in range(1, count)]
            assert all(sorted(each) == [index for index in range(count) if index != primary] for each in orders)
            assert {each[0] for each in orders} == set(orders[0])


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
def test_retry_after_is_read_from_seconds_and_dates_and_other_text_is_ignored(
    given: Response | None, expected: int | None
) -> None:
    assert retry_after_ms(given, NOW) == expected
