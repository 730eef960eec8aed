"""`JSON.stringify(JSON.parse(body))` returns the same bytes, checked by a JavaScript engine."""

import random

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.events.samples import sample
from loyalpro.events.stable_json import encode
from support.documents import awkward_doubles, document
from support.event_bodies import examples, stored_bodies
from support.node import unstable


def test_a_hundred_thousand_documents_stay_the_same() -> None:
    rng = random.Random(20261124)
    documents = [encode(document(rng)) for _ in range(100_000)]
    assert len(set(documents)) > 50_000
    assert unstable(documents) == []


def test_every_awkward_double_stays_the_same() -> None:
    doubles = awkward_doubles(random.Random(1), 100_000)
    assert len(doubles) > 200_000
    groups = [encode(doubles[start : start + 100]) for start in range(0, len(doubles), 100)]
    assert unstable(groups) == []


def test_every_sample_event_stays_the_same() -> None:
    assert unstable([encode(sample(name, 1_763_980_200_000)) for name in EVENT_TYPES]) == []


def test_every_example_event_stays_the_same_when_it_passes_through_its_payload() -> None:
    assert unstable([encode(EVENT_TYPES[name].read(data).data()) for name, data in examples().items()]) == []


def test_multipliers_stay_the_same() -> None:
    event_type, data = EVENT_TYPES["points.earned"], examples()["points.earned"]
    rules = [{"id": "r", "name": "r", "multiplier": permille / 1_000, "points": 1} for permille in range(1, 10_001)]
    assert (
        unstable([encode(event_type.read(data | {"rules": rules[at : at + 10]}).data()) for at in range(0, 10_000, 10)])
        == []
    )


def test_every_stored_body_of_earlier_payloads_stays_the_same() -> None:
    assert unstable(stored_bodies()) == []


def test_the_check_finds_documents_that_change() -> None:
    bad = [
        b"1.0", b"-0", b"1e21", b"1E3", b'{"2":1,"1":2}', b'{"a":1,"a":2}', b'"\\u00e9"', b'"\\/"', b"[1, 2]", b"{} ", b"NaN",
        b"12345678901234567890", b"0.0000001", b'"\xff"', b"",
    ]  # fmt: skip
    good = [b"1", b"1e+21", b'{"b":1,"a":2}']
    assert unstable(good + bad + good) == list(range(len(good), len(good) + len(bad)))
