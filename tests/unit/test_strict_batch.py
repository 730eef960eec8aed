"""A batch is parsed member by member, with the results and the errors of the parser that reads a document at once."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.errors import InvalidInput, MalformedRequest, Refused, TooLarge
from loyalpro.kernel.strict_batch import BatchLimits, parse_batch
from loyalpro.kernel.strict_json import parse

WIDE = BatchLimits(members=1_000, member_characters=256 * 1024)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
BROKEN = st.sampled_from(
    ['{"a":1,"a":2}', "NaN", "1e999", "9007199254740992", '"\\ud800"', '"\\ud83d\\ude00"', "tru", "1.", "{'a':1}", "[1,]"]
    + ["[" * depth + "]" * depth for depth in (61, 62, 63, 64, 70)]
)  # fmt: skip


def outcome(read: Callable[[], Any]) -> str:
    """The value, or the error with all of its fields, as text."""
    try:
        return repr(read())
    except Refused as refusal:
        return repr((type(refusal), refusal.code, refusal.detail, refusal.param))


def document(members: list[str], blank: str = "") -> str:
    return (
        f'{blank}{{{blank}"x"{blank}:{blank}[{blank}' + f"{blank},{blank}".join(members) + f"{blank}]{blank}}}{blank}"
    )


@given(
    st.lists(VALUES.map(json.dumps), max_size=5),
    st.none() | BROKEN,
    st.sampled_from(["", " ", "\n\t"]),
    st.sampled_from([8, 40, 300, WIDE.member_characters]),
)
def test_it_returns_and_refuses_what_the_parser_of_whole_documents_does(
    members: list[str], broken: str | None, blank: str, size: int
) -> None:
    members += [broken] if broken else []
    text = document(members, blank)
    found = outcome(lambda: parse_batch(text.encode(), "x", BatchLimits(1_000, size)))
    expected = outcome(lambda: parse(text.encode()))
    too_long = "TooLarge" in found and max(map(len, members), default=0) > size - 32
    assert too_long or found == expected


@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
def test_damaged_json_is_refused_as_well(members: list[Any], data: st.DataObject) -> None:
    text = bytearray(json.dumps({"x": members}).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(6, len(text) - 1))] = data.draw(st.integers(0, 255))
    found = outcome(lambda: parse_batch(bytes(text), "x", WIDE))
    expected = outcome(lambda: parse(bytes(text)))
    both_refused = found.startswith("(<class") and expected.startswith("(<class")
    assert both_refused or found == expected or "x: Send an array" in found or "unknown_field" in found


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_member_that_a_window_cuts_anywhere_is_parsed_again(cut: int) -> None:
    members = [{"name": "\u00e9\\ \U0001f600" * 3, "n": [1.5e-7, -12, True, None]}, 123_456, "s" * 20]
    text = " " * cut + json.dumps({"x": members * 20}, ensure_ascii=cut % 2 == 0)
    assert parse_batch(text.encode(), "x", BatchLimits(100, 180)) == {"x": members * 20}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b'{"y":1}', "unknown_field", "y"),
        (b'{"transaction":[1]}', "unknown_field", "transaction"),
        (b'{"x":[],"x":[]}', "duplicate_key", "x"),
        (b'{"x":{"a":1}}', "invalid_field", "x"),
        (b'{"x":null}', "invalid_field", "x"),
        (b"[1]", "invalid_field", None),
        (b"", "invalid_json", None),
        (b'{"x":[1]', "invalid_json", None),
        (b'{"x":[1,]}', "invalid_json", None),
        (b'{"x":[1]}}', "invalid_json", None),
        (b"{1:2}", "invalid_json", None),
        (b'{"x":[1,2,3,4]}', "invalid_field", "x"),
        (b'{"x":["' + b"s" * 100 + b'"]}', "body_too_large", "x[0]"),
        (b'{"x":[[' + b"1," * 100 + b"1]]}", "body_too_large", "x[0]"),
        (b'{"' + b"k" * 100 + b'":1}', "body_too_large", None),
    ],
)
def test_an_error_has_a_code_and_names_the_field(body: bytes, code: str, param: str | None) -> None:
    with pytest.raises((MalformedRequest, InvalidInput, TooLarge)) as caught:
        parse_batch(body, "x", BatchLimits(members=3, member_characters=64))
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_member_that_is_nested_deeper_than_the_stack_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_batch(document(["[" * 5_000 + "]" * 5_000]).encode(), "x", WIDE)
    assert (caught.value.code, caught.value.param) == ("too_deep", "x")


def test_nothing_is_parsed_behind_the_first_unknown_field_or_the_first_member_too_many() -> None:
    for body in (b'{"x":[1],"k0":', b'{"x":[1,2,3,4'):
        with pytest.raises(InvalidInput):
            parse_batch(body + b" not JSON", "x", BatchLimits(members=3, member_characters=64))
