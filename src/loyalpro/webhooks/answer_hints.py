"""What the answer of an endpoint hints at: a guess for its owner, read from the status, the headers and the body."""

import re
from collections.abc import Callable, Sequence
from typing import Final

from loyalpro.kernel.record import record

MOST_READ_BYTES: Final = 16 * 1024
_HTTPS: Final = re.compile(r"https://[^\s\"'<>]{1,200}")


@record
class Answer:
    """An answer that is no success. `headers`: by names in lower case. `text`: the beginning of the body."""

    status: int
    headers: dict[str, str]
    text: str


def _mentions(pattern: str, *statuses: int) -> Callable[[Answer], bool]:
    """Whether the body matches, and the status is one of these, if there are any."""
    found = re.compile(pattern, re.IGNORECASE)
    return lambda answer: (not statuses or answer.status in statuses) and found.search(answer.text) is not None


def _is_challenge(answer: Answer) -> bool:
    """Whether a protection against bots has answered."""
    return answer.headers.get("cf-mitigated") == "challenge" or _CHALLENGE(answer)


_CHALLENGE: Final = _mentions(
    r"just a moment\.\.\.|attention required! \| cloudflare|captcha|checking your browser|are you a (?:robot|human)"
)
_PATTERNS: Final[Sequence[tuple[Callable[[Answer], bool], str]]] = (
    (_is_challenge, "Something in front of it may take LoyalPro for a bot: let our user agent through."),
    (_mentions(r"csrf|xsrf|authenticity.?token"), "It may check for CSRF: exempt this path from CSRF checks."),
    (
        _mentions(r"disallowedhost|invalid http_host|blocked host|host (?:is )?not allowed", 400, 403),
        "It may not know its own host name: add it to the hosts that it allows.",
    ),
    (
        _mentions(r"signature|hmac|digest mismatch", 400, 401, 403),
        "Its signature check may have failed: does it have this endpoint's secret? Does it read the raw body?",
    ),
    (
        _mentions(r"duplicate (?:key|entry)|unique constraint|already (?:exists|been processed)|unique violation"),
        "It may have seen this event before; it should answer 200 then.",
    ),
    (
        _mentions(  # bounded, so that a body of beginnings of tags is not searched to its end from each of them
            r"<input[^>]{1,200}?type=[\"']?password|<form[^>]{1,200}?(?:login|log-in|sign-?in)"
            r"|<title>[^<]{0,200}?(?:sign|log) ?in"
        ),
        "Something in front of it may ask for a sign-in: exempt this path.",
    ),
    (
        _mentions(
            r"cannot post /|the requested url was not found|using the url ?conf|\"detail\":\s*\"not found\""
            r"|404 page not found|no route matches|this page could not be found|notfoundhttpexception|<h1>not found</h1>",
            404,
        ),
        "Its framework may have no route there: is the path right?",
    ),
    (lambda answer: answer.status == 413, "Its limit must be 64 KiB or more."),
)
"""The first one that fits is the hint."""


def hint_of(status: int, headers: Sequence[tuple[str, str]], body: bytes) -> str | None:
    """A guess at the cause of an answer that is no success, as sentences; None when it shows nothing.

    `body`: its beginning, of which `MOST_READ_BYTES` are read. An address in the hint is a text of the endpoint.
    """
    if status // 100 == 2:
        return None
    text = body[:MOST_READ_BYTES].decode("utf-8", "replace")
    answer = Answer(status, {name.lower(): value for name, value in headers}, text)
    if status // 100 == 3:
        return _redirect(answer)
    if status == 405:
        allowed = answer.headers.get("allow", "")
        return f"It may take {allowed[:60]} only there." if allowed and "POST" not in allowed.upper() else None
    return next((hint for fits, hint in _PATTERNS if fits(answer)), None)


def _redirect(answer: Answer) -> str | None:
    """Where a redirect leads to."""
    location = _HTTPS.fullmatch(answer.headers.get("location", "").strip())
    return None if location is None else f"It may be at {location[0]} now."
