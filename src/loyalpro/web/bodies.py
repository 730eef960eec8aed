"""Receives the bodies of requests, up to a limit of bytes and of time."""

import asyncio

from fastapi import Request

from loyalpro.kernel.errors import TooLarge, TooSlow
from loyalpro.web.services import services_of


async def received(request: Request, most_bytes: int) -> bytes:
    """The body of a request. Raises `TooLarge` and `TooSlow`."""
    timeout_s = services_of(request).body_timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            return await _capped(request, most_bytes)
    except TimeoutError:
        raise TooSlow(f"The body did not arrive within {timeout_s:g} seconds; send it again, or less of it.") from None


async def _capped(request: Request, most_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most_bytes:
            raise TooLarge(f"The body may have at most {most_bytes} bytes; send fewer objects in each request.")
        chunks.append(chunk)
    return b"".join(chunks)
