"""What a receiver may send in one attempt."""

from typing import Final

MAX_EXCERPT_BYTES: Final = 16 * 1024
MAX_HEADER_BYTES: Final = 32 * 1024
MAX_HEADER_LINES: Final = 200
"""The headers of all responses to one request, interim ones and trailers included."""
HTTP2_WINDOW_BYTES: Final = 64 * 1024
"""How much of a body may still arrive over HTTP/2 when its excerpt is complete: libcurl's initial window."""
MAX_RECEIVED_BYTES: Final = 256 * 1024
"""All bytes that arrive for one request, TLS and frames included: twice the sum of the three above."""
RECEIVE_BUFFER_BYTES: Final = 64 * 1024
"""What the kernel keeps of a connection that is not read, and Linux doubles it: less than the limit above."""
