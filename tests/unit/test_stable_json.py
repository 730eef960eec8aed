import hashlib
import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.events import stable_json
from loyalpro.events.stable_json import MAX_BODY_BYTES, MAX_DEPTH, encode, es_number, freeze, require_stable
from loyalpro.kernel.errors import InvalidInput
from support.documents import is_sent

KEYS = st.text(st.characters(min_codepoint=32, exclude_characters='"\\', exclude_categories=["Cs"])).filter(
    lambda key: not re.fullmatch(r"0|[1-9][0-9]*|__proto__|constructor|prototype", key)
)
SAFE = st.integers(-(2**53) + 1, 2**53 - 1)
PLAIN = st.none() | st.booleans() | SAFE | st.text()


def nested_in(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=20,
    )


VALUES = nested_in(PLAIN | st.floats(allow_nan=False, allow_infinity=False).filter(is_sent))


@given(VALUES)
def test_what_was_encoded_reads_back_the_same(value: Any) -> None:
    assert json.loads(encode(value)) == value


@given(VALUES)
def test_encoding_what_was_read_gives_the_same_bytes(value: Any) -> None:
    once = encode(value)
    assert encode(json.loads(once)) == once


class Word(StrEnum):
    A = "a"


ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals() | st.just(Word.A)
    | st.sampled_from(["\ud800", "\x7f", "\u2028", "\x00\x1f", "</script>", "\U0001f600"])
)  # fmt: skip
ODD_KEYS = st.text(max_size=3) | st.sampled_from(
    ["1", "01", "a", "constructor", '"', "\ud800", Word.A, 1, True, None, 1.5]
)
ODD_VALUES = st.recursive(
    ODD,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(st.integers(), max_size=2)
        | st.dictionaries(ODD_KEYS, inner, max_size=4)
    ),
    max_leaves=20,
)


def outcome(write: Callable[[], bytes]) -> object:
    """The bytes, or what the refusal says."""
    try:
        return write()
    except InvalidInput as refusal:
        return refusal.code, refusal.detail, refusal.param


@given(ODD_VALUES, st.integers(0, MAX_DEPTH))
def test_the_quick_way_and_the_careful_way_say_the_same(value: Any, depth: int) -> None:
    quick = stable_json._encode_plain(value, depth)
    careful = outcome(lambda: stable_json._encode(value, depth, ()))
    assert quick is None or quick == careful


@given(nested_in(PLAIN))
def test_the_quick_way_is_taken_where_there_are_no_fractions(value: Any) -> None:
    assert stable_json._encode_plain(value, MAX_DEPTH) == stable_json._encode(value, MAX_DEPTH, ())


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_itself(number: float) -> None:
    assert float(es_number(number)) == number
    assert math.copysign(1, float(es_number(number))) == math.copysign(1, number) or number == 0


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"), (-0.0, "0"), (1e21, "1e+21"), (1e20, "100000000000000000000"), (1e-6, "0.000001"), (1e-7, "1e-7"),
        (2.5e-7, "2.5e-7"), (5e-324, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"), (-1.5, "-1.5"),
        (123456789012345680000.0, "123456789012345680000"), (1e16, "10000000000000000"),
    ],
)  # fmt: skip
def test_numbers_are_spelled_as_javascript_does(number: float, text: str) -> None:
    assert es_number(number) == text


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"a": {"b": [0, 2**53]}}, "a.b[1]"),
        ({"a": -(2**53)}, "a"),
        ({"a": 2.0**53}, "a"),
        ({"a": [-123456789012345680000.0]}, "a[0]"),
        ({"a": math.nan}, "a"),
        ({"a": [math.inf]}, "a[0]"),
        ({"a": {"7": 1}}, "a.7"),
        ({"a": {"0": 1}}, "a.0"),
        ({"__proto__": 1}, "__proto__"),
        ({"a": {"constructor": 1}}, "a.constructor"),
        ({"a": {'"': 1}}, 'a."'),
        ({"a": {"b\\c": 1}}, "a.b\\c"),
        ({"a": {"\n": 1}}, "a.\n"),
        ({"a": "\ud800"}, "a"),
        ({"a": {"\udc00": 1}}, "a.?"),
        ({"a": Decimal(1)}, "a"),
        ({"a": {1: 2}}, "a"),
        ({"a": b"x"}, "a"),
    ],
)
def test_what_javascript_would_change_is_refused_by_name(value: Any, param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        encode(value)
    assert caught.value.param == param


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_ends_at_32() -> None:
    encode(nested(32))
    with pytest.raises(InvalidInput, match="too deep"):
        encode(nested(33))


def test_a_body_ends_at_64_kib() -> None:
    overhead = len(encode({"a": ""}))
    assert len(freeze({"a": "x" * (MAX_BODY_BYTES - overhead)})) == MAX_BODY_BYTES
    with pytest.raises(InvalidInput) as caught:
        freeze({"a": "x" * (MAX_BODY_BYTES - overhead + 1)})
    assert caught.value.code == "event_too_large"


def test_input_is_measured_as_it_will_be_sent() -> None:
    require_stable({"a": "é" * 10}, param="metadata", max_depth=4, max_bytes=28)
    with pytest.raises(InvalidInput) as caught:
        require_stable({"a": "é" * 10}, param="metadata", max_depth=4, max_bytes=27)
    assert (caught.value.code, caught.value.param) == ("too_large", "metadata")


def test_the_spelling_never_changes() -> None:
    """Bodies are signed: the same document must give the same bytes in every later version."""
    document = {"z": [1, 1.5, 1e-7, 1e300], "a": {"é\u2028": '\x01"'}, "t": True}
    assert (
        hashlib.sha256(encode(document)).hexdigest()[:16]
        == hashlib.sha256('{"z":[1,1.5,1e-7,1e+300],"a":{"é\u2028":"\\u0001\\""},"t":true}'.encode()).hexdigest()[:16]
    )
