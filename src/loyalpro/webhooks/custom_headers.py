"""Custom headers of an endpoint: names are tokens, values are one line, and headers that LoyalPro sets are refused.

CGI, WSGI and PHP receivers see upper-case names in which every other character than a letter or a digit is `_`: to them
`X_LoyalPro.Signature` is `X-LoyalPro-Signature`. So names are compared in that form.
"""

import re
from collections.abc import Mapping
from typing import Final

from loyalpro.kernel.errors import InvalidInput

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
