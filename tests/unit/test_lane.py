from hypothesis import given
from hypothesis import strategies as st

from loyalpro.delivery.breaker import HEALTHY, RAMP_S, Health
from loyalpro.delivery.claims import ClaimKind, Target
from loyalpro.delivery.lane import FIRST_WINDOW, SILENT_AFTER_MS, Destination, Lane

NOW = 1_763_980_200_000


def target(*, rate_limit: int | None = None, health: Health = HEALTHY) -> Target:
    return Target(
        "we_1", "acct_1", "https://example.com/hook", (), ("whsec_x",), 0, rate_limit, ordered=False, health=health
    )


def lane(made_for: Target | None = None, *, width: int = 64, host_width: int = 1_000, share: int = 1) -> Lane:
    made = Lane(made_for or target(), Destination(host_width), width)
    made.refresh(made.target, NOW, share=share)
    made.due_at = NOW
    return made


def room(of: Lane, now: int = NOW) -> int:
    asked = of.ask(now, 10**9)
    return asked.limit if asked else 0


def test_the_window_opens_with_success_and_closes_with_failure() -> None:
    wide = lane(width=32)
    assert room(wide) == FIRST_WINDOW
    wide.started(4, NOW)
    for succeeded, expected in ((True, 16), (True, 32), (True, 32), (False, 16)):
        wide.finished(NOW, succeeded=succeeded)
        assert wide.window == expected
    for _ in range(8):
        wide.started(1, NOW)
        wide.finished(NOW, succeeded=False)
    assert room(wide) == 1


def test_an_endpoint_that_owes_two_answers_and_is_silent_gets_nothing_more() -> None:
    hanging = lane()
    later = NOW + SILENT_AFTER_MS
    hanging.started(1, NOW)
    assert room(hanging, later), "one alone may be the attempt's own fault"
    hanging.started(1, later - 1)
    assert (room(hanging, later - 1), hanging.ready_at(later - 1)) == (FIRST_WINDOW - 2, NOW)
    assert (room(hanging, later), hanging.ready_at(later)) == (0, None)
    hanging.urgent = True
    assert room(hanging, later), "what is sent by hand goes all the same"
    hanging.urgent = False
    hanging.finished(later, succeeded=False)
    assert room(hanging, later) == 0, "and then it gets one at a time"
    hanging.finished(later + 1, succeeded=False)
    assert room(hanging, later + 1) == 1


def test_an_endpoint_that_is_slow_and_answers_is_not_silent() -> None:
    slow = lane()
    slow.started(3, NOW)
    for at in range(NOW + 2_000, NOW + 40_000, 2_000):
        assert room(slow, at)
        slow.started(1, at)
        slow.finished(at, succeeded=True)
    assert slow.window == slow.width
    slow.finished(NOW + 60_000, succeeded=True)
    assert room(slow, NOW + 60_000) == slow.width - 2, "nor is one that has begun to answer again"
    idle = lane()
    idle.started(2, NOW + 60_000)
    assert room(idle, NOW + 60_000), "nor one that was owed nothing before"


def test_a_full_lane_and_a_full_host_ask_for_nothing() -> None:
    full = lane(width=3)
    full.started(3, NOW)
    assert room(full) == 0
    shared = lane(host_width=2)
    shared.started(2, NOW)
    assert room(shared) == 0
    assert shared.destination.is_full


@given(st.integers(1, 2_000), st.lists(st.integers(0, 400), min_size=1, max_size=60), st.integers(1, 4))
def test_no_second_sees_more_than_the_rate_limit(rate_limit: int, waits_ms: list[int], share: int) -> None:
    limited = lane(target(rate_limit=rate_limit), width=100_000, host_width=10**9, share=share)
    limited.window = 100_000
    now, starts = NOW, list[int]()
    for wait_ms in waits_ms:
        now += wait_ms
        count = room(limited, now)
        limited.started(count, now)
        starts += [now] * count
    for begin in starts:
        assert sum(begin <= at < begin + 1_000 for at in starts) <= max(1, rate_limit / share) + 1


def test_an_empty_bucket_says_when_it_has_a_token_again() -> None:
    limited = lane(target(rate_limit=4))
    limited.started(room(limited), NOW)
    assert room(limited) == 0
    again = limited.ready_at(NOW)
    assert again == NOW + 250
    assert room(limited, again - 1) == 0
    assert room(limited, again) == 1


def test_an_open_breaker_lets_one_probe_through_at_its_time_and_what_is_urgent_always() -> None:
    failing = lane(target(health=Health(failures=9, failing_since=NOW, probes=1, probe_at=NOW + 500)))
    assert room(failing) == 0
    assert failing.ready_at(NOW) == NOW + 500
    probe = failing.ask(NOW + 500, 10)
    assert probe is not None
    assert (probe.kind, probe.limit) == (ClaimKind.PROBE, 1)
    failing.started(1, NOW)
    assert failing.ask(NOW + 500, 10) is None
    failing.urgent = True
    urgent = failing.ask(NOW, 10)
    assert urgent is not None
    assert urgent.kind is ClaimKind.URGENT


def test_after_a_recovery_the_rate_rises_until_it_is_free() -> None:
    back = lane(target(health=Health(recovered_at=NOW)), width=10**9, host_width=10**9)
    back.window = 10**9
    sent, now = [], NOW
    while now <= NOW + round(RAMP_S * 1_000) + 1_000:
        count = room(back, now)
        back.started(count, now)
        back.heard_at = now  # it answers
        sent.append(count)
        now += 50
    by_s = [sum(sent[start : start + 20]) for start in range(0, len(sent) - 20, 20)]
    assert by_s[0] <= 30
    assert all(later >= earlier for earlier, later in zip(by_s[:20], by_s[2:22], strict=True))
    assert back.bucket is None


@given(st.integers(1, 500), st.lists(st.integers(-50, 60), min_size=1, max_size=200))
def test_a_time_that_was_read_earlier_is_not_counted_twice(rate_limit: int, moves_ms: list[int]) -> None:
    """Whoever waited for the database brings an older time than those who did not."""
    limited = lane(target(rate_limit=rate_limit), width=10**6, host_width=10**9)
    limited.window = 10**6
    now = latest = NOW
    count = 0
    for move_ms in moves_ms:
        now = max(NOW, now + move_ms)
        latest = max(latest, now)
        asked = room(limited, now)
        limited.started(asked, now)
        count += asked
    assert count <= rate_limit * (latest - NOW) / 1_000 + max(1, rate_limit / 20) + 1
