"""Custom headers of an endpoint: names are tokens, values are one line, and headers that LoyalPro sets are refused.

Their values may be credentials of the receiver, so they are shown masked. In a change, the mask stands for the stored value.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from loyalpro.delivery import concealment
from loyalpro.kernel.errors import InvalidInput

MASK: Final = concealment.MASK
MOST: Final = 20
LONGEST_VALUE: Final = 1_024
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_LINE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_RESERVED: Final = re.compile(
    r"host|content-.*|transfer-encoding|connection|keep-alive|upgrade|te|trailer|expect|user-agent|accept-encoding|cookie"
    r"|proxy-.*|webhook-.*|x-loyalpro-.*|:.*",
    re.IGNORECASE,
)


def validate_custom_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that could change the meaning of the request or inject another one; the error names the header."""
    if len(headers) > MOST:
        raise InvalidInput(f"At most {MOST} headers can be added.", code="invalid_header", param="headers")
    seen: set[str] = set()
    for name, value in headers.items():
        reason = _reason(name, value, seen)
        if reason:
            shown = name.encode("ascii", "backslashreplace").decode()[:64]
            raise InvalidInput(f"Header {shown!r} {reason}.", code="invalid_header", param=f"headers.{shown}")
        seen.add(name.lower())


def masked(headers: Iterable[str]) -> dict[str, str]:
    """Return the headers as they are shown: every value is the mask."""
    return dict.fromkeys(headers, MASK)


def unmasked(headers: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Return the headers to store: a value that is the mask stands for the value of the same header in `known`.

    Raises `InvalidInput` for the mask as the value of a header that `known` does not have.
    """
    values = {name.lower(): value for name, value in known.items()}
    found: dict[str, str] = {}
    for name, value in headers.items():
        kept = values.get(name.lower()) if value == MASK else value
        if kept is None:
            raise InvalidInput(
                f"Header {name!r} has no value yet that {MASK} could stand for; send its value.",
                code="invalid_header",
                param=f"headers.{name}",
            )
        found[name] = kept
    return found


def _reason(name: str, value: str, seen: set[str]) -> str | None:
    if not _TOKEN.fullmatch(name):
        return "has a name that HTTP does not allow"
    if _RESERVED.fullmatch(name):
        return "is set by LoyalPro itself"
    if name.lower() in seen:
        return "is given twice"
    if len(value) > LONGEST_VALUE or not _LINE.fullmatch(value):
        return f"needs a value of 1 to {LONGEST_VALUE} printable ASCII characters"
    return None
