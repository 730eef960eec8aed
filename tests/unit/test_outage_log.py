"""An outage of the database has few log lines, and one that says how long it was."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from loyalpro.kernel.clock import VirtualClock
from loyalpro.kernel.errors import StoreUnavailable
from loyalpro.storage.outage_log import OutageLog

DOWN = StoreUnavailable("The database is not reachable.")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def brief(logs: list[Any]) -> list[tuple[str, float]]:
    return [(line["event"], line["outage_s"]) for line in logs]


def test_thousands_of_failures_have_a_line_every_ten_seconds_and_one_at_the_end(clock: VirtualClock) -> None:
    log, failures = OutageLog(clock), 0
    with capture_logs() as logs:
        for _ in range(25 * 40):
            for kind in ("delivery", "read", "ingest"):
                log.failed(kind, DOWN)
                failures += 1
            clock.advance(0.025)
        for kind in ("read", "delivery", "ingest", "read"):
            log.succeeded(kind)
    assert brief(logs) == [
        ("database_unavailable", 0.0),
        ("database_unavailable", 10.0),
        ("database_unavailable", 20.0),
        ("database_available", 25.0),
    ]
    assert [line["failed"] for line in logs[:3]] == [1, 1_200, 1_200]
    assert {line["log_level"] for line in logs[:3]} == {"error"}
    assert (logs[0]["code"], logs[0]["reason"]) == ("store_unavailable", DOWN.detail)


def test_a_success_of_one_kind_does_not_end_an_outage_of_another(clock: VirtualClock) -> None:
    log = OutageLog(clock)
    with capture_logs() as logs:
        for _ in range(60):
            log.failed("delivery", DOWN)
            log.succeeded("read")
            clock.advance(0.5)
    assert brief(logs) == [
        ("database_unavailable", 0.0),
        ("database_unavailable", 10.0),
        ("database_unavailable", 20.0),
    ]


def test_a_kind_that_is_not_tried_any_more_does_not_keep_an_outage_from_ending(clock: VirtualClock) -> None:
    log = OutageLog(clock)
    with capture_logs() as logs:
        log.failed("ingest", DOWN)
        log.failed("delivery", DOWN)
        clock.advance(1)
        log.succeeded("delivery")
        clock.advance(5)
        log.succeeded("delivery")
    assert brief(logs) == [("database_unavailable", 0.0), ("database_available", 6.0)]


def test_a_second_outage_right_after_the_first_has_a_line_only_if_it_lasts(clock: VirtualClock) -> None:
    log = OutageLog(clock)
    with capture_logs() as logs:
        log.failed("delivery", DOWN)
        clock.advance(30)
        log.succeeded("delivery")
        for _ in range(12):
            clock.advance(1)
            log.failed("delivery", DOWN)
        log.succeeded("delivery")
    assert brief(logs) == [
        ("database_unavailable", 0.0),
        ("database_available", 30.0),
        ("database_unavailable", 9.0),
        ("database_available", 11.0),
    ]
    assert logs[2]["failed"] == 10


def test_a_database_that_fails_every_second_has_as_few_lines(clock: VirtualClock) -> None:
    log = OutageLog(clock)
    with capture_logs() as logs:
        for _ in range(60):
            log.failed("delivery", DOWN)
            clock.advance(0.5)
            log.succeeded("delivery")
            clock.advance(0.5)
    assert len(logs) == 2 * 6
    assert sum(line.get("failed", 0) for line in logs) == 56
