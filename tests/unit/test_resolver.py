"""The resolver: joined and bounded look-ups, and how long their results are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.clock import VirtualClock
from loyalpro.transport.resolver import (
    ANSWER_WITHIN_S,
    LOOPBACK,
    NO_ADDRESS,
    NO_ANSWER,
    NO_TIME,
    Answer,
    Resolution,
    ResolutionStatus,
    Resolver,
)

SHOP = Resolution(ResolutionStatus.FOUND, ("93.184.216.34", "2606:2800:21f::1"))
MOVED = Resolution(ResolutionStatus.FOUND, ("93.184.216.35",))


class Stage:
    """A resolver with its clock; `asked` has the names in the order in which the DNS servers were asked."""

    def __init__(self, per_account: int = 2, max_kept: int = 100) -> None:
        self.clock = VirtualClock()
        self.asked: list[str] = []
        self.resolver = Resolver(self.asked.append, self.clock, per_account=per_account, max_kept=max_kept)

    def look_up(self, name: str, account_id: str = "a", within_s: float = 30) -> list[Resolution]:
        """The results as they come."""
        results: list[Resolution] = []
        self.resolver.look_up(name, account_id, within_s, results.append)
        return results

    def answer(self, name: str, resolution: Resolution = SHOP, ttl_s: float = 30) -> None:
        self.resolver.answered(Answer(name, resolution, ttl_s))

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.resolver.expire()


def test_equal_look_ups_are_one_question() -> None:
    stage = Stage()
    results = [stage.look_up("shop.example", account) for account in "aab"]
    assert stage.asked == ["shop.example"]
    stage.answer("shop.example")
    assert results == [[SHOP]] * 3


def test_an_account_at_its_limit_waits_and_does_not_delay_another() -> None:
    stage = Stage(per_account=2)
    first, second, third = (stage.look_up(f"{n}.example") for n in range(3))
    other = stage.look_up("other.example", "b")
    assert stage.asked == ["0.example", "1.example", "other.example"]
    stage.answer("1.example")
    stage.answer("other.example")
    assert stage.asked[3:] == ["2.example"]
    stage.answer("2.example", NO_ADDRESS)
    assert [first, second, third, other] == [[], [SHOP], [NO_ADDRESS], [SHOP]]


def test_a_name_that_waits_for_one_account_is_asked_at_once_for_another() -> None:
    stage = Stage(per_account=1)
    stage.look_up("silent.example", "a")
    waiting = stage.look_up("shop.example", "a")
    also = stage.look_up("shop.example", "b")
    assert stage.asked == ["silent.example", "shop.example"]
    stage.answer("shop.example")
    assert waiting == also == [SHOP]


@pytest.mark.parametrize(("ttl_s", "kept_s"), [(0, 5), (30, 30), (86_400, 60)])
def test_addresses_are_kept_as_long_as_the_servers_allow_within_limits(ttl_s: float, kept_s: float) -> None:
    stage = Stage()
    stage.look_up("shop.example")
    stage.answer("shop.example", ttl_s=ttl_s)
    stage.advance(kept_s - 0.01)
    assert stage.look_up("shop.example") == [SHOP]
    stage.advance(0.02)
    assert stage.look_up("shop.example") == []
    assert stage.asked == ["shop.example"] * 2


@pytest.mark.parametrize("failure", [NO_ADDRESS, NO_ANSWER])
def test_a_failure_is_kept_for_seconds(failure: Resolution) -> None:
    stage = Stage()
    stage.look_up("gone.example")
    stage.answer("gone.example", failure, ttl_s=86_400)
    stage.advance(4.99)
    assert stage.look_up("gone.example") == [failure]
    stage.advance(0.02)
    assert stage.look_up("gone.example") == []


def test_a_server_that_is_silent_is_given_up_and_frees_its_place() -> None:
    stage = Stage(per_account=1)
    silent, healthy = stage.look_up("silent.example"), stage.look_up("shop.example")
    stage.advance(ANSWER_WITHIN_S + 0.01)
    assert silent == [NO_ANSWER]
    assert stage.asked == ["silent.example", "shop.example"]
    stage.answer("shop.example")
    assert healthy == [SHOP]


def test_a_late_answer_is_kept_for_the_next_look_up_and_a_late_failure_is_not() -> None:
    stage = Stage()
    stage.look_up("slow.example")
    stage.look_up("broken.example")
    stage.advance(ANSWER_WITHIN_S + 0.01)
    stage.answer("slow.example")
    stage.advance(4)
    stage.answer("broken.example", NO_ANSWER)
    assert stage.look_up("slow.example") == [SHOP]
    stage.advance(1.01)
    assert stage.look_up("broken.example") == []


def test_the_last_addresses_stay_in_use_while_the_servers_do_not_answer() -> None:
    """For ten minutes; and they are asked again every few seconds."""
    stage = Stage()
    stage.look_up("shop.example")
    stage.answer("shop.example", ttl_s=60)
    stage.advance(61)
    waiting = stage.look_up("shop.example")
    stage.advance(ANSWER_WITHIN_S)
    assert waiting == [SHOP]
    assert stage.look_up("shop.example") == [SHOP]
    stage.advance(6)
    waiting = stage.look_up("shop.example")
    stage.answer("shop.example", MOVED, ttl_s=60)
    assert waiting == [MOVED]
    stage.advance(660)
    waiting = stage.look_up("shop.example")
    stage.answer("shop.example", NO_ANSWER)
    assert waiting == [NO_ANSWER]


def test_addresses_that_the_servers_took_away_are_not_used_again() -> None:
    stage = Stage()
    stage.look_up("shop.example")
    stage.answer("shop.example", ttl_s=5)
    stage.advance(6)
    stage.look_up("shop.example")
    stage.answer("shop.example", NO_ADDRESS)
    stage.advance(6)
    waiting = stage.look_up("shop.example")
    stage.answer("shop.example", NO_ANSWER)
    assert waiting == [NO_ANSWER]


def test_a_caller_whose_time_is_up_leaves_and_a_name_that_nobody_waits_for_is_not_asked() -> None:
    stage = Stage(per_account=1)
    silent = stage.look_up("silent.example", within_s=2)
    queued = stage.look_up("queued.example", within_s=1)
    stage.advance(1)
    assert (silent, queued) == ([], [NO_TIME])
    stage.advance(1)
    assert silent == [NO_TIME]
    stage.answer("silent.example")
    assert stage.asked == ["silent.example"]
    assert stage.look_up("queued.example") == []
    assert stage.asked == ["silent.example", "queued.example"]


@pytest.mark.parametrize("name", ["localhost", "b.localhost", "a.b.localhost"])
def test_names_of_this_machine_are_not_asked(name: str) -> None:
    stage = Stage()
    assert stage.look_up(name) == [LOOPBACK]
    assert stage.asked == []


def test_no_more_results_are_kept_than_allowed() -> None:
    stage = Stage(max_kept=3)
    for n in range(5):
        stage.look_up(f"{n}.example")
        stage.answer(f"{n}.example")
    assert [stage.look_up(f"{n}.example") for n in range(5)] == [[], [], [SHOP], [SHOP], [SHOP]]


NAMES = st.sampled_from([f"{n}.example" for n in range(6)])
STEPS = st.one_of(
    st.tuples(st.just("look_up"), NAMES, st.sampled_from("abc"), st.sampled_from([0.5, 3.0, 30.0])),
    st.tuples(st.just("answer"), NAMES, st.sampled_from([SHOP, NO_ADDRESS, NO_ANSWER]), st.sampled_from([0.0, 60.0])),
    st.tuples(st.just("advance"), st.sampled_from([0.1, 1.0, 7.0, 70.0])),
)


@given(st.lists(STEPS, max_size=60))
def test_every_look_up_ends_once_and_in_time_and_nothing_stays_behind(steps: list[tuple[object, ...]]) -> None:
    stage = Stage(per_account=2)
    results: list[list[Resolution]] = []
    for name, *arguments in steps:
        result = getattr(stage, str(name))(*arguments)
        results += [result] if name == "look_up" else []
        under_way = stage.resolver._under_way
        assert max(under_way.values(), default=0) <= 2
        assert sum(under_way.values()) == sum(each.account_id is not None for each in stage.resolver._open.values())
    for _ in range(40):  # the longest time of a caller, and a name that waits behind others
        stage.advance(1)
    assert all(len(each) == 1 for each in results)
    for _ in range(10):
        stage.advance(ANSWER_WITHIN_S)
    resolver = stage.resolver
    assert (resolver._open, resolver._queued, dict(resolver._under_way), resolver._timers) == ({}, {}, {}, [])
    assert resolver.next_in_s() is None
