"""One libcurl handle, reused from request to request: its options, the response that it reads, and the result."""

import contextlib
import errno
import os
import re
import socket
import ssl
from pathlib import Path
from typing import Any, Final

import certifi
import pycurl

from loyalpro.delivery.attempt import OutgoingRequest, Response, SendResult, Timings
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.transport import failures
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.certificate_names import CertificateNames
from loyalpro.transport.host_names import resolve_entries
from loyalpro.transport.limits import (
    HTTP2_WINDOW_BYTES,
    MAX_EXCERPT_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADER_LINES,
    RECEIVE_BUFFER_BYTES,
)
from loyalpro.transport.received_bytes import UsedBytes

_STATUS_LINE: Final = re.compile(rb"HTTP/(?:1\.[01]|2) ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
_BLANK: Final = (b"\r\n", b"\n")
_SWITCHING_PROTOCOLS: Final = 101
_QUICK_EXIT: Final = 322  # CURLOPT_QUICK_EXIT, for which pycurl has no name: never wait for a resolver thread
_US_PER_MS: Final = 1_000
_LEAST_WAIT_MS: Final = 0.1  # less is no look-up: the addresses were known
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_CONNECTION_ENDED: Final = (pycurl.E_GOT_NOTHING, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR)
_CUT_BODY: Final = " Only a part of its body was read."


class Transfer:
    """A handle with the options that never change, and the response to its current request as far as it has arrived."""

    def __init__(self, policy: AddressPolicy, certificates: str, names: CertificateNames, used: UsedBytes) -> None:
        self._policy = policy
        self._used = used
        self._names = names
        self._asks_certificate = False
        self.clear()
        self.handle = pycurl.Curl()
        for option, value in self._fixed_options(certificates).items():
            self.handle.setopt(option, value)

    def _fixed_options(self, certificates: str) -> dict[int, Any]:
        return {
            pycurl.PROTOCOLS: pycurl.PROTO_HTTPS,
            pycurl.FOLLOWLOCATION: 0,
            pycurl.PROXY: "",  # overrides the environment variables
            pycurl.NOPROXY: "*",
            pycurl.NETRC: pycurl.NETRC_IGNORED,
            pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2,
            pycurl.SSL_VERIFYPEER: 1,
            pycurl.SSL_VERIFYHOST: 2,
            pycurl.CAINFO: certificates,
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_2TLS,
            pycurl.HTTP09_ALLOWED: 0,
            pycurl.PATH_AS_IS: 1,
            pycurl.NOSIGNAL: 1,
            pycurl.MAXAGE_CONN: 60,
            pycurl.POST: 1,
            pycurl.OPT_CERTINFO: 1,
            pycurl.OPENSOCKETFUNCTION: self._open_socket,
            pycurl.PREREQFUNCTION: self._judge_certificate,
            pycurl.READFUNCTION: self._send_body,
            pycurl.HEADERFUNCTION: self._read_header,
            pycurl.WRITEFUNCTION: self._read_body,
            _QUICK_EXIT: 1,
        }

    def clear(self) -> None:
        """Drop the last request and its response, so that an idle handle holds no memory of them."""
        self._host = ""
        self._address_refused = self._socket_opened = self._sockets_exhausted = self.certificate_refused = False
        self._waited_ms = 0.0
        self._connected = False
        self._unsent = memoryview(b"")
        self._status = self._header_bytes = self._header_lines = 0
        self._headers_cut = self._head_ended = self._truncated = self._flooded = False
        self._head = bytearray()
        self._excerpt = bytearray()

    def prepare(self, request: OutgoingRequest, addresses: tuple[str, ...] = (), waited_s: float = 0.0) -> None:
        """Set the options that differ from request to request.

        `addresses`: those of its host name, so that libcurl looks nothing up; empty when the host is an address. `waited_s`:
        how long their look-up has taken, of the time that the request has.
        """
        timeout_ms = max(1, round((request.timeout_s - waited_s) * 1_000))
        self._waited_ms = waited_s * 1_000
        handle = self.handle
        handle.setopt(pycurl.URL, request.url)
        handle.setopt(pycurl.RESOLVE, resolve_entries(request.url, addresses, self._policy))
        self._host = request.url.removeprefix("https://").partition("/")[0]
        handle.setopt(pycurl.POSTFIELDSIZE_LARGE, len(request.body))
        self._unsent = memoryview(request.body)
        headers = [f"{name}: {value}" for name, value in request.headers]
        handle.setopt(
            pycurl.HTTPHEADER, [*headers, "Accept:", "Expect:"]
        )  # without the headers that libcurl adds by itself
        handle.setopt(pycurl.TIMEOUT_MS, timeout_ms)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, timeout_ms)
        self._choose_connection(request.repeats, asks_certificate=self._names.refuses(self._host))

    def _choose_connection(self, repeats: int, *, asks_certificate: bool) -> None:
        """Choose the connection. `repeats`: how often the request was sent before in its attempt, and its connection ended.

        libcurl does not know which of its connections to a server have ended as well: it finds out when it uses them. So the
        second repeat goes over a new connection. The first one waits for a connection that is being made, if it can share that:
        the streams of an HTTP/2 connection end together, and a new connection for each would be a flood of handshakes.

        `asks_certificate`: the host has to show its certificate, so the request needs a connection of its own without an
        earlier TLS session.
        """
        self.handle.setopt(pycurl.PIPEWAIT, repeats > 0)
        self.handle.setopt(pycurl.FRESH_CONNECT, repeats > 1 or asks_certificate)
        if asks_certificate is not self._asks_certificate:
            self._asks_certificate = asks_certificate
            self.handle.setopt(pycurl.FORBID_REUSE, asks_certificate)
            self.handle.setopt(pycurl.SSL_SESSIONID_CACHE, not asks_certificate)

    def flooded(self) -> SendResult:
        """Return the result of a transfer whose connection is ended because it received too many bytes."""
        self._flooded = True
        return self.result(pycurl.E_RECV_ERROR)

    def result(self, code: int) -> SendResult:
        """Return the result of the finished transfer. `code`: a CURLcode, 0 for success.

        Once the headers are complete the status decides, whatever happened to the body.
        """
        cut = self._truncated or code != 0
        response = Response(self._status, _headers(self._head), bytes(self._excerpt), cut) if self._status else None
        if response is not None and self._head_ended:
            failure, detail = None, f"The endpoint answered {response.status}.{_CUT_BODY if cut else ''}"
        elif code:
            failure, detail = self._failure(code)
        else:  # libcurl reports success when a connection ends in the middle of the headers
            failure, detail = failures.INCOMPLETE if response else failures.INVALID
        return SendResult(
            response=response,
            failure=failure,
            detail=detail,
            remote_ip=self.handle.getinfo(pycurl.PRIMARY_IP) or None,
            timings=self._timings(),
            repeatable=self._is_repeatable(code),
        )

    def _is_repeatable(self, code: int) -> bool:
        """Return whether the endpoint has not processed the request, or has closed a used connection without an answer.

        libcurl would then send the request again by itself, but cannot rewind the body: see `_send_body`. It does so for each
        stream that HTTP/2 declares unprocessed, and for used connections of HTTP/1.1, but not for those of HTTP/2.
        """
        if self._header_bytes or self._flooded:
            return False
        is_used = self.handle.getinfo(pycurl.NUM_CONNECTS) == 0
        return code == pycurl.E_SEND_FAIL_REWIND or (is_used and code in _CONNECTION_ENDED)

    def _failure(self, code: int) -> failures.Failure:
        if self._address_refused and not self._socket_opened:
            return failures.NOT_ALLOWED
        if self._sockets_exhausted and code == pycurl.E_COULDNT_CONNECT:
            return failures.NO_SOCKET
        if self.certificate_refused:
            return failures.NO_HOST_NAME
        if self._headers_cut or (self._flooded and self._status):
            return failures.HEADERS_TOO_LARGE
        if self._flooded:
            return failures.TOO_MANY_BYTES if self._connected else failures.ENDLESS_HANDSHAKE
        return failures.failure(code, self.handle.errstr(), self.handle.getinfo(pycurl.SSL_VERIFYRESULT))

    def _timings(self) -> Timings:
        """libcurl counts every phase from its start; a phase that a kept connection did not need is 0.

        The look-up of the name took place before that start.
        """
        waited = self._waited_ms
        dns, connect, tls, first, total = (
            self.handle.getinfo(info) / _US_PER_MS
            for info in (
                pycurl.NAMELOOKUP_TIME_T,
                pycurl.CONNECT_TIME_T,
                pycurl.APPCONNECT_TIME_T,
                pycurl.STARTTRANSFER_TIME_T,
                pycurl.TOTAL_TIME_T,
            )
        )
        fresh = connect > dns
        return Timings(
            dns_ms=round(waited + dns, 3) if waited >= _LEAST_WAIT_MS or (dns and (fresh or not connect)) else None,
            connect_ms=round(connect - dns, 3) if fresh else None,
            tls_ms=round(tls - connect, 3) if fresh and tls > connect else None,
            first_byte_ms=round(waited + first, 3) if first else None,
            total_ms=round(waited + total, 3),
        )

    # -- callbacks: they run inside libcurl, on its thread, and must not raise -------------------------------------------

    def _open_socket(self, _purpose: int, address: Any) -> socket.socket | int:
        """libcurl calls this for every address before it connects, whatever name led to it; it skips a refused address."""
        if not self._policy.allows(str(address.addr[0])):
            self._address_refused = True
            return int(pycurl.SOCKET_BAD)
        self._socket_opened = True
        try:
            opened = _DuplicatedSocket(address.family, address.socktype, address.protocol)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        except OSError as error:
            self._sockets_exhausted = self._sockets_exhausted or error.errno in _EXHAUSTED
            return int(pycurl.SOCKET_BAD)
        return opened

    def _judge_certificate(self, *_addresses: object) -> int:
        """libcurl calls this on a connection that is ready, before it sends the request."""
        self._connected = True
        try:
            chain = self.handle.getinfo(pycurl.INFO_CERTINFO)
        except UnicodeError:  # a field of the certificate is no text; libcurl has compared the name that it found
            return int(pycurl.PREREQFUNC_OK)
        self.certificate_refused = not self._names.accepts(self._host, chain)
        return int(pycurl.PREREQFUNC_ABORT if self.certificate_refused else pycurl.PREREQFUNC_OK)

    def _send_body(self, size: int) -> bytes:
        """Give libcurl the body once, with no way to rewind it.

        When a kept connection breaks, libcurl would send the request again by itself, up to five times, although the
        receiver may have processed it. Only the engine decides whether to repeat a request, and records each of them.
        """
        piece, self._unsent = self._unsent[:size], self._unsent[size:]
        return bytes(piece)

    def _read_header(self, line: bytes) -> int:
        """Keep the last head as raw bytes: parsed into strings, short lines would take fifty times as much memory."""
        self._used.count += len(line)
        self._header_bytes += len(line)
        self._header_lines += 1
        if self._header_bytes > MAX_HEADER_BYTES or self._header_lines > MAX_HEADER_LINES:
            self._headers_cut = True
            return -1
        if self._head_ended:
            return len(line)  # trailers
        if not self._head:
            found = _STATUS_LINE.fullmatch(line)
            if found is None:
                return -1
            self._status = int(found[1])
        self._head += line
        if line in _BLANK and not self._end_head():
            return -1
        return len(line)

    def _end_head(self) -> bool:
        """Return whether the transfer goes on: after a change of protocols there is no HTTP to read."""
        if self._status >= 200 or self._status == _SWITCHING_PROTOCOLS:
            self._head_ended = True
        else:
            self._head.clear()  # the headers of an interim response do not belong to the final one
        return self._status != _SWITCHING_PROTOCOLS

    def _read_body(self, data: bytes) -> int:
        """Keep an excerpt of the body, and end the transfer there: the outcome depends on the status alone."""
        left = MAX_EXCERPT_BYTES - len(self._excerpt)
        self._excerpt += data[:left]
        self._used.count += len(data)
        if len(data) > left:
            self._truncated = True
            self._used.count += HTTP2_WINDOW_BYTES  # the rest of it may arrive, and is not handed over
            return -1
        return len(data)


def _headers(head: bytearray) -> tuple[tuple[str, str], ...]:
    _, *lines = head.decode("latin-1").split("\n")
    parts = (line.partition(":") for line in lines)
    return tuple((name.strip(), value.strip()) for name, colon, value in parts if colon)


class _DuplicatedSocket(socket.socket):
    """libcurl duplicates the descriptor of the socket that it is given, so the original is closed with its last reference."""

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # the constructor failed
            self.close()


class CertificateBundle:
    """The certificate authorities that deliveries trust, Mozilla's and the operator's own, as a file in memory.

    libcurl parses a file once and caches it for all connections, but it parses and copies certificates that are passed by
    value for each connection. A file in memory cannot be deleted by others while the server runs.
    """

    fd = -1

    def __init__(self, extra: Path | None) -> None:
        bundle = Path(certifi.where()).read_bytes() + b"\n" + (_own_authorities(extra) if extra else b"")
        self.fd = os.memfd_create("certificates", os.MFD_CLOEXEC)
        with open(self.fd, "wb", closefd=False) as file:
            file.write(bundle)
        self.path = f"/proc/self/fd/{self.fd}"

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _own_authorities(path: Path) -> bytes:
    try:
        own = path.read_bytes()
        ssl.create_default_context(cadata=own.decode("ascii"))
    except (ValueError, ssl.SSLError):  # an SSLError is also an OSError
        raise ConfigurationError(f"LOYALPRO_EGRESS_CA_FILE: {path} has no certificates in PEM form.") from None
    except OSError as error:
        raise ConfigurationError(f"LOYALPRO_EGRESS_CA_FILE: {path} cannot be read ({error.strerror}).") from None
    return own
