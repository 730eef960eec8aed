"""One request and what came of it: pure values, and the code that each end of it gets."""

from dataclasses import field
from enum import StrEnum
from typing import Protocol

from loyalpro.kernel.record import record


class OutcomeCode(StrEnum):
    """How an attempt ended. Only `succeeded` is a success."""

    SUCCEEDED = "succeeded"
    HTTP_3XX = "http_3xx"
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    HTTP_OTHER = "http_other"
    GONE = "gone"
    TIMEOUT = "timeout"
    DNS_FAILED = "dns_failed"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TLS_CERTIFICATE_EXPIRED = "tls_certificate_expired"
    TLS_CERTIFICATE_NOT_YET_VALID = "tls_certificate_not_yet_valid"
    TLS_HOSTNAME_MISMATCH = "tls_hostname_mismatch"
    TLS_UNTRUSTED = "tls_untrusted"
    CONNECTION_LOST = "connection_lost"
    INVALID_RESPONSE = "invalid_response"
    RESPONSE_HEADERS_TOO_LARGE = "response_headers_too_large"
    TARGET_NOT_ALLOWED = "target_not_allowed"
    INTERRUPTED = "interrupted"
    INTERNAL_ERROR = "internal_error"


@record
class OutgoingRequest:
    """A `POST` to send, byte for byte."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_s: float


@record
class Timings:
    """Where the time went, in milliseconds; None for a phase that was not reached, or not needed on a kept connection."""

    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    total_ms: float


@record
class Response:
    """What came back, as far as it was read."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body_excerpt: bytes
    truncated: bool


@record
class SendResult:
    """How the transport saw it. `failure` is set when no whole response came in time; `detail` is a sentence for people."""

    response: Response | None
    failure: OutcomeCode | None
    detail: str
    remote_ip: str | None
    timings: Timings

    @classmethod
    def broken(cls) -> "SendResult":
        """A mistake of our own kept the request from being sent."""
        detail = "The request could not be made; this is our mistake, and it will be tried again."
        return cls(None, OutcomeCode.INTERNAL_ERROR, detail, None, Timings(None, None, None, None, 0.0))


class Sender(Protocol):
    """Sends one request. It never raises for what the other side does: that is a result."""

    async def send(self, request: OutgoingRequest) -> SendResult:
        """At most `request.timeout_s` seconds, everything included."""
        ...


def classify(result: SendResult) -> OutcomeCode:
    """2xx is success; everything else has its code."""
    if result.failure is not None:
        return result.failure
    if result.response is None:
        return OutcomeCode.INVALID_RESPONSE
    status = result.response.status
    if status == 410:
        return OutcomeCode.GONE
    hundreds = {2: OutcomeCode.SUCCEEDED, 3: OutcomeCode.HTTP_3XX, 4: OutcomeCode.HTTP_4XX, 5: OutcomeCode.HTTP_5XX}
    return hundreds.get(status // 100, OutcomeCode.HTTP_OTHER)
