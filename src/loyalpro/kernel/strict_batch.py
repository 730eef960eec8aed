"""Parses a batch: a JSON object with one field, an array of many members. Accepts and refuses what `strict_json` does.

The standard parser is one call that does not return before the whole document is read, and no other thread of the process runs
meanwhile. So a batch is parsed member by member, out of windows of limited size: each call is short, whatever the body is. An
unknown field and the first member too many end the parsing where they stand.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from loyalpro.kernel.errors import InvalidInput, LoyalProError, TooLarge
from loyalpro.kernel.json_path import Path, path_text
from loyalpro.kernel.nearest import suggestion
from loyalpro.kernel.record import record
from loyalpro.kernel.strict_json import not_json, parse_at, text_of

_BLANK: Final = re.compile(r"[ \t\n\r]*")
_LONGEST_TOKEN: Final = 32
"""An error so close to the end of a window can come from the cut: no number, literal or escape is longer."""


@record
class BatchLimits:
    """The highest number of members, and of characters in one member."""

    members: int
    member_characters: int


def parse_batch(
    body: bytes, field: str, limits: BatchLimits, convert: Callable[[Any], Any] = lambda member: member
) -> dict[str, list[Any]]:
    """`{field: members}`, or `{}` when the field is missing. Raises `MalformedRequest`, `InvalidInput` or `TooLarge`.

    Each member is converted before the next one is parsed, so that both forms of it exist for one member only.
    """
    return _Batch(text_of(body), field, limits, convert).parse()


class _Batch:
    """A document, how far it is read, and the window that members are parsed from."""

    def __init__(self, text: str, field: str, limits: BatchLimits, convert: Callable[[Any], Any]) -> None:
        self._text = text
        self._field = field
        self._limits = limits
        self._convert = convert
        self._at = 0
        self._window = ""
        self._window_start = 0

    def parse(self) -> dict[str, list[Any]]:
        """The document."""
        if self._next() != "{":
            raise self._refused_document()
        self._at += 1
        found: dict[str, list[Any]] = {}
        if not self._take("}"):
            self._read_fields(found)
        if self._next():
            raise not_json("Extra data", self._text, self._at)
        return found

    def _read_fields(self, found: dict[str, list[Any]]) -> None:
        while True:
            name = self._name()
            if name in found:
                detail = f"{self._field} occurs twice in the same object; send it once."
                raise InvalidInput(detail, code="duplicate_key", param=self._field)
            self._require(":")
            found[name] = self._members()
            if self._take("}"):
                return
            self._require(",")

    def _name(self) -> str:
        """The name of the next field. Any other than the one that a batch has is refused."""
        if self._next() != '"':
            raise not_json("Expecting property name enclosed in double quotes", self._text, self._at)
        name = self._value(())
        if name != self._field:
            shown = path_text([name])
            detail = f"{shown}: {suggestion(name, [self._field], 'field')}"
            raise InvalidInput(detail, code="unknown_field", param=shown)
        return self._field

    def _members(self) -> list[Any]:
        if self._next() != "[":
            raise InvalidInput(f"{self._field}: Send an array.", code="invalid_field", param=self._field)
        self._at += 1
        found: list[Any] = []
        if self._take("]"):
            return found
        while True:
            if len(found) == self._limits.members:
                detail = f"{self._field}: Send at most {self._limits.members} members in one request."
                raise InvalidInput(detail, code="invalid_field", param=self._field)
            self._next()
            found.append(self._convert(self._value((self._field, len(found)))))
            if self._take("]"):
                return found
            self._require(",")

    def _value(self, path: Path) -> Any:
        """The value at the present place. One that the window cuts off is parsed again, in a window that begins with it."""
        parsed = self._parsed(path)
        if parsed is None and self._window_start != self._at:
            self._window_start = self._at
            self._window = self._text[self._at : self._at + self._limits.member_characters]
            parsed = self._parsed(path)
        if parsed is None:
            raise TooLarge(
                f"{path_text(path) or 'A name'} has more than {self._limits.member_characters} characters; shorten it.",
                param=path_text(path) or None,
            )
        value, end = parsed
        self._at = self._window_start + end
        return value

    def _parsed(self, path: Path) -> tuple[Any, int] | None:
        """The value in the window, and where it ends there; None when the window ends before the value."""
        is_last = self._window_start + len(self._window) == len(self._text)
        try:
            value, end = parse_at(self._window, self._at - self._window_start, path)
        except json.JSONDecodeError as error:
            near_end = error.pos > len(self._window) - _LONGEST_TOKEN or error.msg.startswith("Unterminated string")
            if near_end and not is_last:
                return None
            raise not_json(error.msg, self._text, self._window_start + error.pos) from None
        return (value, end) if end < len(self._window) or is_last else None

    def _next(self) -> str:
        """The next character that is not blank, which becomes the present place; empty at the end."""
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None
        self._at = blank.end()
        return self._text[self._at : self._at + 1]

    def _take(self, token: str) -> bool:
        """Whether the next character is `token`; if so, it is passed."""
        if self._next() != token:
            return False
        self._at += 1
        return True

    def _require(self, token: str) -> None:
        if not self._take(token):
            raise not_json(f"Expecting '{token}' delimiter", self._text, self._at)

    def _refused_document(self) -> LoyalProError:
        example = f'{{"{self._field}": [...]}}'
        if not self._next():
            return not_json("Expecting value", self._text, self._at)
        return InvalidInput(f"The body: Send an object: {example}.", code="invalid_field")
