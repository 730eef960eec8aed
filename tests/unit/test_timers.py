"""Timers of queues: the earliest first, a new time replaces the old one, and stale entries do not pile up."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from loyalpro.delivery.endpoint_queue import Destination, EndpointQueue
from loyalpro.delivery.timers import COALESCE_MS, Timers, coalesced
from support.claims import TARGET


def queues(count: int) -> dict[str, EndpointQueue]:
    targets = [replace(TARGET, endpoint_id=f"we_{number}") for number in range(count)]
    return {each.endpoint_id: EndpointQueue(each, Destination(1), 1) for each in targets}


@given(st.integers(0, 10**13))
def test_a_coalesced_time_is_the_first_multiple_that_is_not_earlier(at: int) -> None:
    assert coalesced(at) % COALESCE_MS == 0
    assert 0 <= coalesced(at) - at < COALESCE_MS


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 100)), max_size=200), st.integers(0, 100))
def test_the_timers_that_are_due_fire_once_and_in_order(settings: list[tuple[int, int]], now: int) -> None:
    known = queues(5)
    timers, expected = Timers(known), dict[str, int]()
    for number, at in settings:
        timers.set(known[f"we_{number}"], at)
        expected[f"we_{number}"] = at
    fired = [queue.endpoint_id for queue in timers.fire(now)]
    assert fired == [id_ for id_, at in sorted(expected.items(), key=lambda each: (each[1], each[0])) if at <= now]
    assert list(timers.fire(now)) == []
    assert timers.next_at is None or timers.next_at > now


def test_stale_entries_are_dropped_when_there_are_many() -> None:
    known = queues(1)
    timers = Timers(known)
    for at in range(1_000, 0, -1):
        timers.set(known["we_0"], at)
    assert len(timers._heap) < 100
    assert [queue.endpoint_id for queue in timers.fire(1)] == ["we_0"]
