"""Custom headers of an endpoint: names are tokens, values are one line, and headers that LoyalPro sets are refused.

Their values may be credentials of the receiver, so they are shown masked. In a change, the mask stands for the stored value.

CGI, WSGI and PHP receivers see upper-case names in which every other character than a letter or a digit is `_`: to them
`X_LoyalPro.Signature` is `X-LoyalPro-Signature`. So names are compared in that form.
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
_NEITHER_LETTER_NOR_DIGIT: Final = re.compile(r"[^a-z0-9]")
_RESERVED: Final = re.compile(
    r"host|content_.*|transfer_encoding|connection|keep_alive|upgrade|te|trailers?|expect|user_agent|accept_encoding|cookie2?"
    r"|http2_settings|proxy|proxy_.*|webhook_.*|x_loyalpro_.*"
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
        seen.add(_as_variable(name))


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
    if _RESERVED.fullmatch(_as_variable(name)):
        return "is set by LoyalPro or HTTP, or a receiver could take it for one that is"
    if _as_variable(name) in seen:
        return "is given twice, or a receiver cannot tell it from another one"
    if len(value) > LONGEST_VALUE or not _LINE.fullmatch(value):
        return f"needs a value of 1 to {LONGEST_VALUE} printable ASCII characters"
    return None


def _as_variable(name: str) -> str:
    """The name of the variable in which a receiver finds the header, in lower case and without `HTTP_`."""
    return _NEITHER_LETTER_NOR_DIGIT.sub("_", name.lower())
