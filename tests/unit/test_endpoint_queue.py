from hypothesis import given
from hypothesis import strategies as st

from loyalpro.delivery.breaker import HEALTHY, RAMP_S, Health
from loyalpro.delivery.claims import ClaimKind, Target
from loyalpro.delivery.endpoint_queue import FIRST_WINDOW, SILENT_AFTER_MS, Destination, EndpointQueue

NOW = 1_763_980_200_000


def target(*, rate_limit: int | None = None, health: Health = HEALTHY) -> Target:
    return Target(
        "we_1", "acct_1", "https://example.com/hook", (), ("whsec_x",), 0, rate_limit, ordered=False, health=health
    )


def queue(made_for: Target | None = None, *, width: int = 64, host_width: int = 1_000, share: int = 1) -> EndpointQueue:
    made = EndpointQueue(made_for or target(), Destination(host_width), width)
    made.refresh(made.target, NOW, share=share)
    made.due_at = NOW
    return made


def limit(of: EndpointQueue, now: int = NOW) -> int:
    asked = of.request(now, 10**9)
    return asked.limit if asked else 0


def test_the_window_opens_with_success_and_closes_with_failure() -> None:
    wide = queue(width=32)
    assert limit(wide) == FIRST_WINDOW
    wide.started(4, NOW)
    for succeeded, expected in ((True, 16), (True, 32), (True, 32), (False, 16)):
        wide.finished(NOW, succeeded=succeeded)
        assert wide.window == expected
    for _ in range(8):
        wide.started(1, NOW)
        wide.finished(NOW, succeeded=False)
    assert limit(wide) == 1


def test_a_silent_endpoint_with_two_attempts_in_flight_gets_nothing_more() -> None:
    hanging = queue()
    later = NOW + SILENT_AFTER_MS
    hanging.started(1, NOW)
    assert limit(hanging, later), "a single attempt may be slow for a reason of its own"
    hanging.started(1, later - 1)
    assert (limit(hanging, later - 1), hanging.ready_at(later - 1)) == (FIRST_WINDOW - 2, NOW)
    assert (limit(hanging, later), hanging.ready_at(later)) == (0, None)
    hanging.urgent = True
    assert limit(hanging, later), "a manual attempt is sent all the same"
    hanging.urgent = False
    hanging.finished(later, succeeded=False)
    assert limit(hanging, later) == 0, "after a failure it gets one at a time"
    hanging.finished(later + 1, succeeded=False)
    assert limit(hanging, later + 1) == 1


def test_a_slow_endpoint_that_answers_is_not_silent() -> None:
    slow = queue()
    slow.started(3, NOW)
    for at in range(NOW + 2_000, NOW + 40_000, 2_000):
        assert limit(slow, at)
        slow.started(1, at)
        slow.finished(at, succeeded=True)
    assert slow.window == slow.width
    slow.finished(NOW + 60_000, succeeded=True)
    assert limit(slow, NOW + 60_000) == slow.width - 2, "nor is an endpoint that has begun to answer again"
    idle = queue()
    idle.started(2, NOW + 60_000)
    assert limit(idle, NOW + 60_000), "nor an endpoint that had nothing to answer before"


def test_a_full_queue_and_a_full_host_request_nothing() -> None:
    full = queue(width=3)
    full.started(3, NOW)
    assert limit(full) == 0
    shared = queue(host_width=2)
    shared.started(2, NOW)
    assert limit(shared) == 0
    assert shared.destination.is_full


@given(st.integers(1, 2_000), st.lists(st.integers(0, 400), min_size=1, max_size=60), st.integers(1, 4))
def test_no_second_has_more_starts_than_the_rate_limit(rate_limit: int, waits_ms: list[int], share: int) -> None:
    limited = queue(target(rate_limit=rate_limit), width=100_000, host_width=10**9, share=share)
    limited.window = 100_000
    now, starts = NOW, list[int]()
    for wait_ms in waits_ms:
        now += wait_ms
        count = limit(limited, now)
        limited.started(count, now)
        starts += [now] * count
    for begin in starts:
        assert sum(begin <= at < begin + 1_000 for at in starts) <= max(1, rate_limit / share) + 1


def test_an_empty_bucket_sets_the_time_of_the_next_request() -> None:
    limited = queue(target(rate_limit=4))
    limited.started(limit(limited), NOW)
    assert limit(limited) == 0
    again = limited.ready_at(NOW)
    assert again == NOW + 250
    assert limit(limited, again - 1) == 0
    assert limit(limited, again) == 1


def test_an_open_breaker_allows_one_probe_at_its_time_and_urgent_deliveries_always() -> None:
    failing = queue(target(health=Health(failures=9, failing_since=NOW, probes=1, probe_at=NOW + 500)))
    assert limit(failing) == 0
    assert failing.ready_at(NOW) == NOW + 500
    probe = failing.request(NOW + 500, 10)
    assert probe is not None
    assert (probe.kind, probe.limit) == (ClaimKind.PROBE, 1)
    failing.started(1, NOW)
    assert failing.request(NOW + 500, 10) is None
    failing.urgent = True
    urgent = failing.request(NOW, 10)
    assert urgent is not None
    assert urgent.kind is ClaimKind.URGENT


def test_the_rate_rises_during_a_recovery_and_has_no_limit_after_it() -> None:
    back = queue(target(health=Health(recovered_at=NOW)), width=10**9, host_width=10**9)
    back.window = 10**9
    sent, now = [], NOW
    while now <= NOW + round(RAMP_S * 1_000) + 1_000:
        count = limit(back, now)
        back.started(count, now)
        back.answered_at = now  # it answers
        sent.append(count)
        now += 50
    by_s = [sum(sent[start : start + 20]) for start in range(0, len(sent) - 20, 20)]
    assert by_s[0] <= 30
    assert all(later >= earlier for earlier, later in zip(by_s[:20], by_s[2:22], strict=True))
    assert back.bucket is None


@given(st.integers(1, 500), st.lists(st.integers(-50, 60), min_size=1, max_size=200))
def test_a_time_that_was_read_earlier_fills_no_tokens_again(rate_limit: int, moves_ms: list[int]) -> None:
    """A call that waited for the database comes with an older time than a call before it."""
    limited = queue(target(rate_limit=rate_limit), width=10**6, host_width=10**9)
    limited.window = 10**6
    now = latest = NOW
    count = 0
    for move_ms in moves_ms:
        now = max(NOW, now + move_ms)
        latest = max(latest, now)
        asked = limit(limited, now)
        limited.started(asked, now)
        count += asked
    assert count <= rate_limit * (latest - NOW) / 1_000 + max(1, rate_limit / 20) + 1
