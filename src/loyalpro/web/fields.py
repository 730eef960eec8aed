"""The types of request fields, with their limits and error messages."""

import re
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

from fastapi import Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from loyalpro.events.stable_json import require_stable
from loyalpro.kernel.clock import UnixMs, unix_ms
from loyalpro.kernel.errors import NotFound
from loyalpro.kernel.ids import Prefix, is_id
from loyalpro.loyalty.customers import MAX_METADATA_BYTES, MAX_METADATA_DEPTH
from loyalpro.web.answers import Page
from loyalpro.web.field_errors import UNKNOWN_FIELD

MAX_AMOUNT: Final = 10**12 - 1
PAGE: Final = 100
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_LAST_INSTANT: Final = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last valid time; the first is 1970-01-01T00:00:00Z."""
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(Z|[+-]\d\d:\d\d)?", re.ASCII)
"""RFC 3339, in which the seconds may be missing, and the offset, so that an error can say so."""


class Body(BaseModel):
    """A request body: types are exact, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_known_fields(cls, given: Any) -> Any:
        """Refuse the first unknown field alone, because there can be thousands of them."""
        known = cls.__pydantic_fields__.keys()
        if isinstance(given, dict) and not given.keys() <= known:
            name = next((each for each in given if each not in known), "")
            raise PydanticCustomError(UNKNOWN_FIELD, "Unknown field", {"name": name, "known": list(known)})
        return given


def _plain(text: str) -> str:
    """A text that identifies something: one line that every receiver, terminal and database can represent."""
    if _CONTROL.search(text):
        raise PydanticCustomError("control_character", "Control characters are not allowed here")
    return text


def _storable(text: str) -> str:
    """A text that describes something. PostgreSQL stores every character of it but one."""
    if "\x00" in text:
        raise PydanticCustomError("control_character", "The character U+0000 is not allowed here")
    return text


def _filter(text: str | None) -> str | None:
    """The value of a filter. An empty one would list everything, or nothing."""
    if text == "":
        raise PydanticCustomError("empty", "Send a value, or leave the parameter out")
    return text and _plain(text)


def whole(value: Any) -> Any:
    """An integer may be written as a fraction of zero: JSON has one kind of number, and `5600.0` is 5600."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def few(most: int) -> BeforeValidator:
    """Refuses an object with too many fields before each of them is checked."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise PydanticCustomError("too_many", "Send fewer fields in this object")
        return value

    return BeforeValidator(check)


def _instant(value: Any) -> UnixMs:
    """An RFC 3339 time with its offset, as Unix milliseconds."""
    match = _TIME.fullmatch(value.upper()) if isinstance(value, str) else None
    if match is None:
        raise _time("Send an RFC 3339 time with its offset, such as 2026-11-23T10:15:30.123Z")
    if match[3] is None:
        raise _time("The time has no offset; append Z for UTC, or an offset such as +02:00")
    try:
        instant = unix_ms(datetime.fromisoformat("".join((match[1], "T", match[2], match[3]))))
    except OverflowError:
        instant = -1 if match[1] < "1970" else _LAST_INSTANT + 1
    except ValueError:
        raise _time("There is no such date, time of day or offset; 23:59:59 is the last second of a day") from None
    if not 0 <= instant <= _LAST_INSTANT:
        raise _time(f"Times {'before the year 1970' if instant < 0 else 'after the year 9999'} (UTC) are not accepted")
    return instant


def _time(detail: str) -> PydanticCustomError:
    return PydanticCustomError("time", "{detail}", {"detail": detail})


ShortText = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_plain)]
LongText = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_plain)]
Tag = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_plain)]
Description = Annotated[str, Field(max_length=255), AfterValidator(_storable)]
Whole = Annotated[int, BeforeValidator(whole, json_schema_input_type=int)]
Amount = Annotated[
    Whole, Field(ge=0, le=MAX_AMOUNT, description="Integer in the currency's minor unit: 5600 is 56.00.")
]
Instant = Annotated[
    UnixMs, BeforeValidator(_instant), Field(json_schema_extra={"type": "string", "format": "date-time"})
]
Metadata = Annotated[dict[str, Any], Field(description="Your own data, at most 16 KiB as JSON.")]

Limit = Annotated[int, Query(ge=1, le=PAGE, description="The number of items, at most 100.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the previous page.", max_length=64)]
SearchText = Annotated[str | None, Query(max_length=255), AfterValidator(_filter)]


def check_metadata(metadata: dict[str, Any], param: str = "metadata") -> int:
    """The bytes of metadata as JSON. Refuses what JavaScript would change, and names the field."""
    return require_stable(metadata, param=param, max_depth=MAX_METADATA_DEPTH, max_bytes=MAX_METADATA_BYTES)


def known_id(prefix: Prefix, text: str, *, param: str = "id") -> str:
    """`text` if it has the form of an id with this prefix; else `NotFound`, because no object has such an id."""
    if not is_id(prefix, text):
        raise NotFound(f"{text[:64]!r} is not an id of the kind {prefix}_...", param=param)
    return text


class _Identified(TypedDict):
    id: str


V = TypeVar("V", bound=_Identified)


def page(items: list[V], limit: int) -> Page[V]:
    """A page of a list. `items` has up to `limit` + 1 entries: the extra one only shows that there is another page."""
    shown = items[:limit]
    return {"data": shown, "next_cursor": shown[-1]["id"] if len(items) > limit else None}
