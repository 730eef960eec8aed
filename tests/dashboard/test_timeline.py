"""Requests on the line of time."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.web.dashboard.timeline import WIDTH, lane, place
from loyalpro.webhooks.entities import PastRequest

ANSWERED = PastRequest(0, "succeeded", "", (), 200, (), b"", False, "203.0.113.24", 3.1, 17.9, 61.8, 1_203.8, 1_204.4)
SILENT = replace(ANSWERED, outcome="timeout", response_status=None, first_byte_ms=None, total_ms=30_000.0)


@pytest.mark.parametrize(("ms", "x"), [(0, 0), (1, 0), (10, 223.4), (1_000, 670.1), (30_000, 1_000), (90_000, 1_000)])
def test_the_axis_goes_from_a_millisecond_to_thirty_seconds(ms: float, x: float) -> None:
    assert place(ms) == x


def test_each_phase_is_a_bar_and_a_duration() -> None:
    found = lane(ANSWERED)
    assert [(bar.phase, bar.hangs) for bar in found.bars] == [
        ("dns", False), ("connect", False), ("tls", False), ("wait", False), ("body", False),
    ]  # fmt: skip
    assert {phase: took and round(took, 1) for phase, took in found.took_ms.items()} == {
        "dns": 3.1, "connect": 14.8, "tls": 43.9, "wait": 1_142.0, "body": 0.6,
    }  # fmt: skip
    assert (found.kept, found.hung) == (False, None)


@pytest.mark.parametrize(
    ("request_", "hung"),
    [
        (SILENT, "wait"),
        (replace(SILENT, tls_ms=None), "tls"),
        (replace(SILENT, tls_ms=None, connect_ms=None), "connect"),
        (replace(SILENT, tls_ms=None, connect_ms=None, dns_ms=None), "dns"),
        (replace(SILENT, tls_ms=None, connect_ms=None, first_byte_ms=3.0, total_ms=3.0), "connect"),
        (replace(SILENT, total_ms=None), None),
    ],
)
def test_the_phase_that_never_ended_hangs(request_: PastRequest, hung: str | None) -> None:
    found = lane(request_)
    assert found.hung == hung
    assert [bar.phase for bar in found.bars if bar.hangs] == ([] if hung is None else [hung])


def test_a_kept_connection_begins_at_the_first_byte() -> None:
    found = lane(replace(ANSWERED, dns_ms=None, connect_ms=None, tls_ms=None))
    assert found.kept
    assert [bar.phase for bar in found.bars] == ["wait", "body"]


@given(st.lists(st.floats(0, 40_000), min_size=5, max_size=5), st.booleans())
def test_bars_follow_one_another_within_the_axis(instants: list[float], answered: bool) -> None:  # noqa: FBT001
    dns, connect, tls, first, total = sorted(instants)
    request = replace(
        ANSWERED if answered else SILENT,
        dns_ms=dns,
        connect_ms=connect,
        tls_ms=tls,
        first_byte_ms=first if answered else None,
        total_ms=total,
    )
    bars = lane(request).bars
    assert all(0 <= bar.x <= WIDTH and bar.width > 0 for bar in bars)
    assert all(before.x <= after.x for before, after in pairwise(bars))
