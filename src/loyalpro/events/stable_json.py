"""JSON that survives JavaScript: `JSON.stringify(JSON.parse(b)) === b`, for every body `b` that is sent.

Many receivers compute the signature of the object that they parsed, not of the bytes that they received. V8 changes a document
in a few known ways: it moves integer-like keys to the front, writes numbers differently, misreads keys with escapes, and
replaces what is not Unicode. A value that V8 would change is written as V8 writes it, or refused.
"""

import json.encoder
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from loyalpro.events.payload import Shape
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.json_path import Path, path_text

MAX_BODY_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 32
MAX_SAFE_INTEGER: Final = 2**53 - 1

_UNSTABLE_KEY: Final = re.compile(
    r"0|[1-9][0-9]*"  # V8 moves integer-like keys to the front
    r"|__proto__|constructor|prototype"  # parsers that guard against prototype pollution refuse these
    r'|.*["\\\x00-\x1f].*',  # V8 12 to 13 (Node 24) can read a key with an escape as another key that it saw before
    re.DOTALL,
)
_quote: Final[Callable[[str], str]] = (
    getattr(json.encoder, "c_encode_basestring", None) or json.encoder.encode_basestring
)

_SCALARS: Final = frozenset({str, bool, type(None)})
_FIRST_WITH_EXPONENT: Final = 1e21
"""Up to here a double beyond 2^53-1 is written as an integer, which readers with integers of 64 bits or less misread."""
_TOO_LARGE_INTEGER: Final = "is an integer that JavaScript cannot hold (more than 2^53-1); send it as a string"
_write_plain: Final = msgspec.json.Encoder().encode


class Unstable(InvalidInput):
    """A value that JSON for JavaScript cannot carry unchanged."""

    code = "unstable_json"


def encode(value: object) -> bytes:
    """`value` as JSON: compact, in insertion order, UTF-8, with the fewest escapes. Raises `Unstable`."""
    quick = _encode_plain(value, MAX_DEPTH)
    return _encode(value, MAX_DEPTH, ()) if quick is None else quick


def freeze(value: object) -> bytes:
    """`encode`, for the body of an event. Raises `InvalidInput` `event_too_large` beyond 64 KiB."""
    body = encode(value)
    if len(body) > MAX_BODY_BYTES:
        raise InvalidInput(
            f"The event would have {len(body)} bytes, {MAX_BODY_BYTES} is the most; send shorter metadata or fewer items.",
            code="event_too_large",
            param="metadata",
        )
    return body


def require_stable(value: object, *, param: str, max_depth: int, max_bytes: int) -> int:
    """The bytes of `value` as JSON. Raises `InvalidInput`, with the name of the field, for what `freeze` would refuse later."""
    quick = _encode_plain(value, max_depth)
    size = (
        2 * _count(value, max_depth) if quick is None else len(quick)
    )  # a value and its separator take two bytes or more
    if size <= max_bytes and quick is None:
        size = len(_encode(value, max_depth, (param,)))
    if size > max_bytes:
        raise InvalidInput(f"{param} has over {max_bytes} bytes as JSON; shorten it.", code="too_large", param=param)
    return size


def _count(value: object, depth: int) -> int:
    """How many values are inside of `value`, down to `depth`."""
    inner: Iterable[object] = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    else:
        return 0
    return len(value) + (sum(_count(each, depth - 1) for each in inner) if depth else 0)


def es_number(number: float) -> str:
    """A finite double as ECMAScript's Number::toString writes it.

    Python's `repr` finds the same shortest digits; only the point and the exponent stand elsewhere.
    """
    if number == 0:
        return "0"  # JSON.stringify(-0) is "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    return sign + _place(digits, point)


def _place(digits: str, point: int) -> str:
    """`digits` with the decimal point before position `point`: ECMA-262, Number::toString, steps 6 to 12."""
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    exponent = point - 1
    mantissa = digits if count == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{'+' if exponent > 0 else '-'}{abs(exponent)}"


def _encode_plain(value: object, depth: int) -> bytes | None:
    """The result of `_encode`, several times faster; None for a value that only `_encode` writes right or refuses."""
    if not _is_plain(value, depth):
        return None
    try:
        return _write_plain(value)
    except UnicodeEncodeError:
        return None  # half of a surrogate pair


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a common JSON encoder writes all of `value` as JavaScript does. The names of a payload's fields are stable."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is int:
        return bool(-MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER)
    if depth == 0:
        return False
    if kind is dict:
        return all(map(_is_stable_key, value)) and _are_plain(value.values(), depth - 1)
    if isinstance(value, Shape):
        return _are_plain(value.values(), depth - 1)
    return (kind is list or kind is tuple) and _are_plain(value, depth - 1)


def _are_plain(values: Iterable[Any], depth: int) -> bool:
    """Whether all of these values are plain. Texts and integers are most of them, so they need no call."""
    for item in values:
        kind = type(item)
        if kind in _SCALARS or (kind is int and -MAX_SAFE_INTEGER <= item <= MAX_SAFE_INTEGER):
            continue
        if not _is_plain(item, depth):
            return False
    return True


@lru_cache(maxsize=1_024)
def _is_stable_key(key: object) -> bool:
    """Cached, because few different keys occur. The cache keeps a subclass of `str` apart from the `str` that it equals."""
    return type(key) is str and _UNSTABLE_KEY.fullmatch(key) is None


def _encode(value: object, depth: int, path: Path) -> bytes:
    """Write each part as JavaScript does. Raises `Unstable` with the path of a value that JSON cannot carry."""
    parts: list[str] = []
    _write(value, parts, depth, path)
    try:
        return "".join(parts).encode()
    except UnicodeEncodeError:
        raise _at(_path_of_surrogate(value, path), "has half of a surrogate pair, which is not a character") from None


def _write(value: Any, parts: list[str], depth: int, path: Path) -> None:  # noqa: C901 - one case a type
    kind = type(value)
    if kind is str:
        parts.append(_quote(value))
    elif value is None:
        parts.append("null")
    elif value is True:
        parts.append("true")
    elif value is False:
        parts.append("false")
    elif kind is int:
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise _at(path, _TOO_LARGE_INTEGER)
        parts.append(str(value))
    elif kind is float:
        if value - value != 0:
            raise _at(path, "is not a finite number")
        if MAX_SAFE_INTEGER < abs(value) < _FIRST_WITH_EXPONENT:
            raise _at(path, _TOO_LARGE_INTEGER)
        parts.append(es_number(value))
    elif kind is dict or isinstance(value, Shape):
        _write_object(value if kind is dict else value.data(), parts, depth, path)
    elif kind is list or kind is tuple:
        _write_array(value, parts, depth, path)
    else:
        raise _at(path, f"is a {kind.__name__}, which JSON does not have")


def _write_object(value: dict[object, object], parts: list[str], depth: int, path: Path) -> None:
    if depth == 0:
        raise _too_deep(path)
    if not value:
        parts.append("{}")
        return
    lead = "{"
    for key, item in value.items():
        if type(key) is not str:
            raise _at(path, "has a key that is not a string")
        if _UNSTABLE_KEY.fullmatch(key):
            raise _at((*path, key), "is a key that JavaScript does not keep as it is; choose another")
        parts.append(lead)
        parts.append(_quote(key))
        parts.append(":")
        _write(item, parts, depth - 1, (*path, key))
        lead = ","
    parts.append("}")


def _write_array(value: list[object] | tuple[object, ...], parts: list[str], depth: int, path: Path) -> None:
    if depth == 0:
        raise _too_deep(path)
    if not value:
        parts.append("[]")
        return
    lead = "["
    for index, item in enumerate(value):
        parts.append(lead)
        _write(item, parts, depth - 1, (*path, index))
        lead = ","
    parts.append("]")


def _too_deep(path: Path) -> InvalidInput:
    return InvalidInput(
        f"{path_text(path) or 'The document'} is nested too deeply; flatten it.",
        code="too_deep",
        param=path_text(path[:1]),
    )


def _at(path: Path, reason: str) -> Unstable:
    name = path_text(path)
    return Unstable(f"{name or 'The document'} {reason}.", param=name or None)


def _path_of_surrogate(value: object, path: Path) -> Path:
    """The path of the half surrogate pair that made encoding fail."""
    match value:
        case str():
            return path if _has_surrogate(value) else ()
        case Shape():
            return _path_of_surrogate(value.data(), path)
        case dict():
            for key, item in value.items():
                if _has_surrogate(key):
                    return (*path, key)
                if found := _path_of_surrogate(item, (*path, key)):
                    return found
        case list() | tuple():
            for index, item in enumerate(value):
                if found := _path_of_surrogate(item, (*path, index)):
                    return found
    return ()


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
