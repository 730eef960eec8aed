"""The types of request fields, with their limits and error messages."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from loyalpro.events.stable_json import require_stable
from loyalpro.kernel.clock import UnixMs, unix_ms
from loyalpro.kernel.errors import NotFound
from loyalpro.kernel.ids import Prefix, is_id

MAX_METADATA_BYTES: Final = 16 * 1024
MAX_METADATA_DEPTH: Final = 16
MAX_AMOUNT: Final = 10**12 - 1
PAGE: Final = 100
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_LAST_INSTANT: Final = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last valid time; the first is 1970-01-01T00:00:00Z."""


class Body(BaseModel):
    """A request body: types are exact, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _plain(text: str) -> str:
    """Text of one line that every receiver, terminal and database can represent."""
    if _CONTROL.search(text):
        raise PydanticCustomError("control_character", "Control characters are not allowed here")
    return text


def _instant(value: Any) -> UnixMs:
    """An RFC 3339 time with its offset, as Unix milliseconds."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and "T" in value.upper() else None
        if moment is not None and moment.tzinfo is not None:
            instant = unix_ms(moment)
            if 0 <= instant <= _LAST_INSTANT:
                return instant
    except (ValueError, OverflowError):
        pass
    raise PydanticCustomError("time", "Expected an RFC 3339 time with its offset, such as 2026-11-23T10:15:30.123Z")


ShortText = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_plain)]
LongText = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_plain)]
Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT, description="Integer in the currency's minor unit: 5600 is 56.00.")]
Instant = Annotated[
    UnixMs, BeforeValidator(_instant), Field(json_schema_extra={"type": "string", "format": "date-time"})
]
Metadata = Annotated[dict[str, Any], Field(description="Your own data, at most 16 KiB as JSON.")]

Limit = Annotated[int, Query(ge=1, le=PAGE, description="The number of items, at most 100.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the previous page.", max_length=64)]
SearchText = Annotated[str | None, Query(max_length=255), AfterValidator(lambda value: value and _plain(value))]


def check_metadata(metadata: dict[str, Any], param: str = "metadata") -> None:
    """Refuse metadata that JavaScript would change, and name the field."""
    require_stable(metadata, param=param, max_depth=MAX_METADATA_DEPTH, max_bytes=MAX_METADATA_BYTES)


def known_id(prefix: Prefix, text: str, *, param: str = "id") -> str:
    """`text` if it has the form of an id with this prefix; else `NotFound`, because no object has such an id."""
    if not is_id(prefix, text):
        raise NotFound(f"{text[:64]!r} is not an id of the kind {prefix}_...", param=param)
    return text


def page(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A page of a list. `items` has up to `limit` + 1 entries: the extra one only shows that there is another page."""
    shown = items[:limit]
    return {"data": shown, "next_cursor": shown[-1]["id"] if len(items) > limit else None}
