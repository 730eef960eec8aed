"""Failed attempts have log lines, a bounded number of them, and none is left out silently."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from loyalpro.delivery.attempt import OutcomeCode, Response, Timings
from loyalpro.delivery.attempt_log import LINES, LINES_PER_ENDPOINT, SUMMARIES, WINDOW_S, AttemptLog
from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import VirtualClock, rfc3339
from support.claims import CLAIMED, TARGET

SECRETS = ("token=abc", "whsec_", "X-Secret", "a body", "the detail", "shop.example")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def failed(
    endpoint_id: str = "we_1",
    outcome: OutcomeCode = OutcomeCode.HTTP_5XX,
    status: DeliveryStatus = DeliveryStatus.PENDING,
    due_at: int | None = 1_763_980_205_000,
) -> Settlement:
    url = "https://shop.example/hook?token=abc"
    target = replace(TARGET, endpoint_id=endpoint_id, url=url)
    response = Response(503, (("X-Secret", "x"),), b"a body", truncated=False)
    timings = Timings(None, None, None, 1.0, 12.345)
    attempt = Attempt(3, 1, outcome, "the detail", (("X-Secret", "x"),), response, "203.0.113.7", timings)
    claimed = replace(CLAIMED, target=target, request_id="till-4", traceparent="00-a-b-01")
    return Settlement(claimed, status, due_at, attempt)


def test_the_line_of_a_failed_attempt_says_what_happened_and_nothing_of_the_content(clock: VirtualClock) -> None:
    log = AttemptLog(clock)
    with capture_logs() as logs:
        log.settled(failed())
        log.settled(failed("we_2", OutcomeCode.TIMEOUT, DeliveryStatus.EXHAUSTED))
    assert logs[0] == {
        "event": "attempt_failed",
        "log_level": "info",
        "delivery_id": "dlv_1",
        "event_id": "evt_1",
        "endpoint_id": "we_1",
        "attempt": 3,
        "outcome": "http_5xx",
        "http_status": 503,
        "ms": 12.35,
        "status": "pending",
        "next_at": rfc3339(1_763_980_205_000),
        "request_id": "till-4",
        "traceparent": "00-a-b-01",
    }
    assert (logs[1]["status"], logs[1]["outcome"], "next_at" in logs[1]) == ("exhausted", "timeout", False)
    assert [each for each in SECRETS if each in repr(logs)] == []


def test_a_success_and_a_delivery_that_was_not_sent_have_no_line(clock: VirtualClock) -> None:
    log = AttemptLog(clock)
    with capture_logs() as logs:
        log.settled(failed(outcome=OutcomeCode.SUCCEEDED, status=DeliveryStatus.SUCCEEDED))
        log.settled(Settlement(CLAIMED, DeliveryStatus.EXHAUSTED, None, None))
    assert logs == []


@pytest.mark.parametrize("endpoints", [1, 3, 1_000])
def test_a_storm_has_few_lines_and_every_failure_is_in_one_of_them(clock: VirtualClock, endpoints: int) -> None:
    """1,000 failures a second for a minute, which is six windows."""
    log, sent = AttemptLog(clock), 0
    with capture_logs() as logs:
        for _ in range(60):
            for number in range(1_000):
                log.settled(failed(f"we_{number % endpoints}", (OutcomeCode.TIMEOUT, OutcomeCode.HTTP_5XX)[number % 2]))
                sent += 1
            clock.advance(1)
        log.end_window()
    lines = Counter(line["event"] for line in logs)
    assert lines["attempt_failed"] <= 6 * min(LINES, LINES_PER_ENDPOINT * endpoints)
    assert lines["attempts_left_out"] <= 6 * (min(endpoints, SUMMARIES) + 1)
    assert accounted(logs) == sent


def accounted(logs: list[Any]) -> int:
    """How many attempts the lines speak of."""
    for line in logs:
        if "outcomes" in line:
            assert sum(line["outcomes"].values()) == line["attempts"]
    return sum(line.get("attempts", 1) for line in logs)


def test_one_failing_endpoint_does_not_silence_another(clock: VirtualClock) -> None:
    log = AttemptLog(clock)
    with capture_logs() as logs:
        for _ in range(50):
            log.settled(failed("we_loud"))
        log.settled(failed("we_quiet"))
        clock.advance(WINDOW_S)
        log.flush()
    assert [line["endpoint_id"] for line in logs if line["event"] == "attempt_failed"] == [
        *["we_loud"] * LINES_PER_ENDPOINT,
        "we_quiet",
    ]
    assert [line for line in logs if line["event"] == "attempts_left_out"] == [
        {
            "event": "attempts_left_out",
            "log_level": "info",
            "endpoint_id": "we_loud",
            "attempts": 45,
            "outcomes": {"http_5xx": 45},
        }
    ]
