"""Limits on the size and the time of what a client sends before the application sees a request."""

from asyncio import BaseTransport, TimerHandle
from http import HTTPStatus
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 100


class _BadHead(Exception):
    """Ends the parsing of a head that is too large, or that does not name one host."""


class BoundedHttp(HttpToolsProtocol):
    """An HTTP protocol with bounded memory: it limits heads, trailers, and the bytes between chunks.

    Trailers are dropped. They come behind the body, when the request is under way, and could say what its headers do not.
    """

    head_timeout_s = 30.0
    _head_bytes = 0
    _headers = 0
    _is_in_body = False
    _unaccounted_bytes = 0
    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Start the timer for the first head."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes. A head or trailers that are too large are refused at once, even when they have not ended."""
        self._unset_keepalive_if_required()
        self._unaccounted_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade:
            return  # the request was answered without the upgrade; what follows would be in the other protocol
        except HttpParserError:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if self._is_too_large() else HTTPStatus.BAD_REQUEST)
            return
        if self._unaccounted_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self.cycle is None or self.cycle.response_complete:
            self._start_head_timer()

    def on_message_begin(self) -> None:
        """Reset the counts for a new request."""
        super().on_message_begin()
        self._head_bytes = self._headers = 0
        self._is_in_body = False

    def on_url(self, url: bytes) -> None:
        """Count a part of the request target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count one line of the head or of the trailers, and keep it if it is of the head."""
        self._headers += 1
        self._count(len(name) + len(value))
        if not self._is_in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the timer: from here on, the application limits the time of the request."""
        self._is_in_body = True
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise _BadHead
        self._unaccounted_bytes = 0
        self._stop_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on: the application limits its size."""
        self._unaccounted_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request: the next bytes belong to another one."""
        self._unaccounted_bytes = 0
        super().on_message_complete()

    def _should_upgrade_to_ws(self) -> bool:
        return False

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._is_too_large():
            raise _BadHead

    def _is_too_large(self) -> bool:
        return self._head_bytes > MAX_HEAD_BYTES or self._headers > MAX_HEADERS

    def _refuse(self, status: HTTPStatus) -> None:
        """Refuse and close. Nothing is sent within another response, and nothing is logged: a client could fill the log."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self.timeout_keep_alive_handler)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
