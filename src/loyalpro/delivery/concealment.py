"""Conceals the values of custom headers in what is recorded and shown: they may be credentials of the receiver."""

from dataclasses import replace
from typing import Final

from loyalpro.delivery.attempt import Response

Headers = tuple[tuple[str, str], ...]

MASK: Final = "********"
"""Stands for the value of a custom header wherever headers are shown."""
_SHORTEST: Final = 8
"""A shorter value is not looked for in responses: it is no credential, and may be part of any word."""


def conceal_headers(headers: Headers, custom: Headers) -> Headers:
    """Return the headers of a request with the values of custom headers masked."""
    names = {name for name, _ in custom}
    return tuple((name, MASK if name in names else value) for name, value in headers) if names else headers


def conceal_response(response: Response | None, custom: Headers) -> Response | None:
    """Return a response with the values of custom headers masked: receivers for tests repeat the request in their answer."""
    values = sorted({value for _, value in custom if len(value) >= _SHORTEST}, key=len, reverse=True)
    if response is None or not values:
        return response
    headers, excerpt = response.headers, response.body_excerpt
    for value in values:
        headers = tuple((name.replace(value, MASK), text.replace(value, MASK)) for name, text in headers)
        excerpt = excerpt.replace(value.encode(), MASK.encode())
    return replace(response, headers=headers, body_excerpt=excerpt)
