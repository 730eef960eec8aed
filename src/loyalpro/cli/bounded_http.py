"""What a caller may send before there is a request to judge: so much, and in so much time."""

from asyncio import BaseTransport, TimerHandle
from http import HTTPStatus
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MOST_HEAD_BYTES: Final = 64 * 1024
MOST_HEADERS: Final = 100


class _HeadTooLarge(Exception):
    """Ends parsing."""


class BoundedHttp(HttpToolsProtocol):
    """HTTP of which nothing is kept without bound: heads, trailers and what stands between chunks included."""

    head_timeout_s = 30.0
    _head_bytes = 0
    _headers = 0
    _unaccounted_bytes = 0
    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Wait for a head, but not for ever."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A head or trailers that do not end are refused as soon as they are too large, ended or not."""
        self._unset_keepalive_if_required()
        self._unaccounted_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade:
            return  # has been answered as if it had not asked for another protocol; what follows would be in that
        except HttpParserError:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if self._is_too_large() else HTTPStatus.BAD_REQUEST)
            return
        if self._unaccounted_bytes > MOST_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self.cycle is None or self.cycle.response_complete:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """Count anew."""
        super().on_message_begin()
        self._head_bytes = self._headers = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One line of the head, or of the trailers."""
        self._headers += 1
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """There is a request, and the time that it takes is the application's."""
        self._unaccounted_bytes = 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """How much of it is taken is for the application to say."""
        self._unaccounted_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What comes next is another one."""
        self._unaccounted_bytes = 0
        super().on_message_complete()

    def _should_upgrade_to_ws(self) -> bool:
        return False

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._is_too_large():
            raise _HeadTooLarge

    def _is_too_large(self) -> bool:
        return self._head_bytes > MOST_HEAD_BYTES or self._headers > MOST_HEADERS

    def _refuse(self, status: HTTPStatus) -> None:
        """Nothing is said in the middle of another answer, and nothing is logged: a stranger could fill the log."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
