"""What a receiver may send in one attempt."""

from typing import Final

MAX_EXCERPT_BYTES: Final = 16 * 1024
MAX_HEADER_BYTES: Final = 32 * 1024
MAX_HEADER_LINES: Final = 200
"""The headers of all responses to one request, interim ones and trailers included."""
