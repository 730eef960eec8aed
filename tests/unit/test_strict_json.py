import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loyalpro.kernel import strict_json
from loyalpro.kernel.errors import InvalidInput, MalformedRequest
from loyalpro.kernel.strict_json import parse

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-(2.0**53) + 1, 2.0**53 - 1)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_valid_json_parses_as_in_the_standard_library(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value


@given(st.binary())
@example(b"[" * 200_000)
@example(b'{"a":' * 100_000)
@example(b"9" * 5_000)
@example(b'"\\ud800"')
@example(b"\xef\xbb\xbf{}")
def test_arbitrary_bytes_raise_only_documented_errors(body: bytes) -> None:
    try:
        parse(body)
    except (MalformedRequest, InvalidInput) as error:
        assert error.code
        assert error.detail


def outcome(read: Callable[[], Any]) -> str:
    """The value, or the error with all of its fields, as text."""
    try:
        return repr(read())
    except (MalformedRequest, InvalidInput) as refusal:
        return repr((type(refusal), refusal.code, refusal.detail, refusal.param))


RAW = json.JSONEncoder(ensure_ascii=False)
BROKEN = st.sampled_from(
    ['{"a":1,"a":2}', "NaN", "-Infinity", "1e999", "9007199254740992", "-0", "7" * 5_000, '"\\ud800"', '"\\ud83d\\ude00"']
    + ["[" * depth + "]" * depth for depth in (63, 64, 65)]
)  # fmt: skip


@given(VALUES, st.lists(BROKEN, max_size=2), st.sampled_from([json.dumps, RAW.encode]))
def test_the_fast_path_and_the_slow_path_agree(value: Any, broken: list[str], write: Callable[[Any], str]) -> None:
    text = "[" + ",".join([write(value), *broken]) + "]"
    expected = outcome(lambda: strict_json._parse_slowly(text))
    assert outcome(lambda: parse(text.encode("utf-8", "surrogatepass"))) == expected


@given(VALUES, st.data())
def test_damaged_json_raises_only_documented_errors(value: Any, data: st.DataObject) -> None:
    text = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse(bytes(text))
    except (MalformedRequest, InvalidInput) as error:
        assert error.code


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b'{"a":{"b":1,"c":2,"b":3}}', "duplicate_key", "a.b"),
        (b'{"a":[1,{"b":NaN}]}', "invalid_json", "a[1].b"),
        (b'{"a":-Infinity}', "invalid_json", "a"),
        (b'{"a":' + b"1" * 5_000 + b"}", "number_out_of_range", "a"),
        (b'{"a":-9007199254740992}', "number_out_of_range", "a"),
        (b'{"a":1e400}', "number_out_of_range", "a"),
        (b'{"a":{"b":"\\udc00"}}', "invalid_string", "a.b"),
        (b'{"a":{"\\ud800":1}}', "invalid_string", "a.?"),
        (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", "too_deep", "a"),
        (b'{"a.b":' + b"[" * 70 + b"]" * 70 + b"}", "too_deep", "a.b"),
        (b"[" * 70 + b"]" * 70, "too_deep", None),
        (b'{"a":1,"' + b"k" * 300 + b'":[NaN]}', "invalid_json", "k" * 253 + "..."),
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"\xff", "invalid_json", None),
        (b"{'a':1}", "invalid_json", None),
    ],
)
def test_an_error_has_a_code_and_names_the_field(body: bytes, code: str, param: str | None) -> None:
    with pytest.raises((MalformedRequest, InvalidInput)) as caught:
        parse(body)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse(b'"\\ud83d\\ude00"') == "\U0001f600"


def test_the_slow_path_takes_linear_time_with_a_long_key() -> None:
    key, zeros = "k" * 500_000, 250_000
    body = b'{"\\ud83d\\ude00' + key.encode() + b'":[' + b",".join([b"0"] * zeros) + b"]}"
    assert parse(body) == {"\U0001f600" + key: [0] * zeros}
