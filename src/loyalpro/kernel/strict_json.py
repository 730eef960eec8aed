"""Parses JSON of untrusted callers.

It refuses what the standard library accepts and LoyalPro does not: duplicate keys, NaN and the infinities, numbers beyond
2^53-1, halves of surrogate pairs, and deep nesting. Each refusal names the field.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from loyalpro.kernel.errors import InvalidInput, LoyalProError, MalformedRequest
from loyalpro.kernel.iteration import pull
from loyalpro.kernel.json_path import Path, path_text

MAX_DEPTH: Final = 64
MAX_SAFE_INTEGER: Final = 2**53 - 1
_SAFE_INTEGERS: Final = range(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER + 1)
_MAX_DIGITS: Final = 16
"""2^53-1 has 16 digits. A longer integer is out of range, and converting it would cost time."""


class _Duplicate:
    """A placeholder for an object with a duplicate key, until the check of the document knows its path."""

    def __init__(self, key: str) -> None:
        self.key = key


class _NotANumber:
    """A placeholder for NaN and the infinities, which JSON does not have."""

    def __init__(self, text: str) -> None:
        self.text = text


_OUT_OF_RANGE: Final = object()
_TOO_LARGE: Final = (
    f"is beyond {MAX_SAFE_INTEGER} (2^53-1), up to which every reader of JSON keeps integers exactly; "
    "send it as a string"
)


def parse(body: bytes) -> Any:
    """The value of a JSON document in UTF-8. Raises `MalformedRequest` or `InvalidInput`, which names the field."""
    text = text_of(body)
    try:
        value = _FAST_DECODER.decode(text)
        if _is_plain(value, MAX_DEPTH) and not _SURROGATE_ESCAPE.search(text):
            return value
    except (ValueError, RecursionError):
        pass  # the slow path finds the error and names its place
    return _parse_slowly(text)


def parse_at(text: str, start: int, path: Path) -> tuple[Any, int]:
    """The value that starts at `start`, and where it ends. What follows it is not read.

    `path` is where the value stands in its document. Raises `json.JSONDecodeError` for what is not JSON, otherwise as `parse`.
    """
    depth = MAX_DEPTH - len(path)
    try:
        value, end = _FAST_DECODER.raw_decode(text, start)
        if _is_plain(value, depth) and not _SURROGATE_ESCAPE.search(text, start, end):
            return value, end
    except (ValueError, RecursionError):
        pass
    try:
        value, end = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise _too_deep(path) from None
    _check(value, path, depth)
    return value, end


def text_of(body: bytes) -> str:
    """The text of a body in UTF-8, without a byte order mark. Raises `MalformedRequest`."""
    try:
        return body.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise malformed(f"Byte {error.start} is not UTF-8; send the body as UTF-8.") from None


def not_json(reason: str, text: str, position: int) -> LoyalProError:
    """The error for a text that is not JSON at `position`."""
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return malformed(f"{reason} at line {line}, column {column}; send JSON.")


def _parse_slowly(text: str) -> Any:
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise not_json(error.msg, text, error.pos) from None
    except RecursionError:
        raise _too_deep() from None
    _check(value, (), MAX_DEPTH)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _is_plain(value: Any, depth: int) -> bool:
    """Whether every number in `value` is in range, and the nesting is not deeper than `depth`."""
    kind = type(value)
    if kind is int:
        return value in _SAFE_INTEGERS
    if kind is dict:
        return depth > 0 and _are_plain(value.values(), depth - 1)
    if kind is list:
        return depth > 0 and _are_plain(value, depth - 1)
    return kind is not float or -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER


def _are_plain(values: Iterable[Any], depth: int) -> bool:
    for item in values:
        if type(item) is str:
            continue
        if not _is_plain(item, depth):
            return False
    return True


def _pairs(pairs: list[tuple[str, Any]]) -> object:
    """An object, or a placeholder when it has a duplicate key."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    return _Duplicate(pull(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]


def _integer(digits: str) -> object:
    if len(digits) > _MAX_DIGITS + 1:
        return _OUT_OF_RANGE
    number = int(digits)
    return number if -MAX_SAFE_INTEGER <= number <= MAX_SAFE_INTEGER else _OUT_OF_RANGE


def _double(text: str) -> object:
    number = float(text)
    return number if -MAX_SAFE_INTEGER <= number <= MAX_SAFE_INTEGER else _OUT_OF_RANGE


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_integer, parse_float=_double, parse_constant=_NotANumber
)

_FAST_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique)
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape for half of a surrogate pair. The slow path checks that its other half is there."""


def _check(value: Any, path: Path, depth: int) -> None:
    """Raise an error for everything that the decoder let through. The path becomes text only in an error."""
    kind = type(value)
    if kind is str:
        _check_text(value, path)
    elif kind is dict:
        if depth == 0:
            raise _too_deep(path)
        for key, item in value.items():
            here = (*path, key)
            _check_text(key, here)
            _check(item, here, depth - 1)
    elif kind is list:
        if depth == 0:
            raise _too_deep(path)
        for index, item in enumerate(value):
            _check(item, (*path, index), depth - 1)
    elif kind is _Duplicate or kind is _NotANumber or value is _OUT_OF_RANGE:
        _refuse(value, path)


def _check_text(text: str, path: Path) -> None:
    """Refuse half of a surrogate pair. It can only come from an escape, and it cannot be stored or sent."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _invalid(
            "invalid_string", path, "has half of a surrogate pair (such as \\ud800), which is not a character"
        ) from None


def _refuse(value: object, path: Path) -> NoReturn:
    match value:
        case _Duplicate(key=key):
            raise _invalid("duplicate_key", (*path, key), "occurs twice in the same object; send it once")
        case _NotANumber(text=text):
            name = path_text(path)
            raise MalformedRequest(
                f"{name or 'The body'} is {text}, which is not in JSON; send a number or null.",
                code="invalid_json",
                param=name or None,
            )
    raise _invalid("number_out_of_range", path, _TOO_LARGE)


def _invalid(code: str, path: Path, reason: str) -> LoyalProError:
    name = path_text(path)
    return InvalidInput(f"{name or 'The body'} {reason}.", code=code, param=name or None)


def malformed(detail: str) -> LoyalProError:
    """The error for a body that is not JSON."""
    return MalformedRequest(detail, code="invalid_json")


def _too_deep(path: Path = ()) -> LoyalProError:
    return InvalidInput(
        f"The body is nested more than {MAX_DEPTH} levels deep; flatten it.",
        code="too_deep",
        param=path_text(path[:1]) if path and isinstance(path[0], str) else None,
    )
