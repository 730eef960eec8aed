import random
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.clock import VirtualClock
from loyalpro.kernel.ids import IdFactory, floor, is_id, made_at


@given(st.integers(), st.lists(st.sampled_from([0, 0, 0, 0.001, 5, -3]), max_size=40))
def test_ids_sort_in_the_order_they_were_made_even_when_the_clock_goes_back(seed: int, moves_s: list[float]) -> None:
    clock = VirtualClock()
    factory = IdFactory(clock, random.Random(seed))
    made = [factory.new("evt")]
    for move_s in moves_s:
        clock.advance(move_s)
        made.append(factory.new("evt"))
    assert made == sorted(set(made))
    assert all(is_id("evt", each) and len(each) == 30 for each in made)


@given(st.integers(0, 2**48 - 1))
def test_an_id_tells_when_it_was_made(instant: int) -> None:
    assert made_at(floor("txn", instant)) == instant


def test_threads_never_get_the_same_id() -> None:
    factory = IdFactory(VirtualClock(), random.Random(1))
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: factory.new("dlv"), range(4_000)))
    assert len(set(made)) == 4_000


def test_is_id_rejects_every_other_text() -> None:
    good = IdFactory(VirtualClock(), random.Random(1)).new("cus")
    assert is_id("cus", good)
    for bad in (
        "",
        "cus_",
        good.upper(),
        good + "0",
        good[:-1],
        "evt" + good[3:],
        good[:-1] + "u",
        good + "\n",
        "cus_\0",
    ):
        assert not is_id("cus", bad)
