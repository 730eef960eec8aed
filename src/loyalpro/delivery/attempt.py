"""One HTTP request and its result: values, and the outcome code of each result."""

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
    """A `POST` request, to be sent byte for byte.

    `repeats`: how many requests of the same attempt were `repeatable`. After the first of them another connection is used,
    and after the second one a new connection. `account_id`: whose limit of look-ups its host name counts against.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_s: float
    repeats: int = 0
    account_id: str = ""


@record
class Timings:
    """The durations of the phases of a request, in milliseconds.

    None for a phase that was not reached, or that a kept connection did not need.
    """

    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    total_ms: float


@record
class Response:
    """The response, as far as it was read. `truncated`: the excerpt may not be the whole body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body_excerpt: bytes
    truncated: bool


@record
class SendResult:
    """The result of one request.

    `failure` is set when no complete headers of a response arrived in time. `detail`: a sentence about the result.
    `repeatable`: the endpoint declared that it has not processed the request, or it closed a connection that had been used
    before, and sent no byte of an answer.
    """

    response: Response | None
    failure: OutcomeCode | None
    detail: str
    remote_ip: str | None
    timings: Timings
    repeatable: bool = False

    @classmethod
    def internal_error(cls) -> "SendResult":
        """Return the result of a request that was not sent because of an error in LoyalPro."""
        detail = "The request could not be made because of an error in LoyalPro; it is retried."
        return cls(None, OutcomeCode.INTERNAL_ERROR, detail, None, Timings(None, None, None, None, 0.0))


class Sender(Protocol):
    """Sends requests. Whatever the endpoint does is a result and not an exception."""

    async def send(self, request: OutgoingRequest) -> SendResult:
        """Send a request and return its result, after at most `request.timeout_s` seconds in all."""
        ...


def classify(result: SendResult) -> OutcomeCode:
    """Return the outcome code of a result: `succeeded` for 2xx only."""
    if result.failure is not None:
        return result.failure
    if result.response is None:
        return OutcomeCode.INVALID_RESPONSE
    status = result.response.status
    if status == 410:
        return OutcomeCode.GONE
    hundreds = {2: OutcomeCode.SUCCEEDED, 3: OutcomeCode.HTTP_3XX, 4: OutcomeCode.HTTP_4XX, 5: OutcomeCode.HTTP_5XX}
    return hundreds.get(status // 100, OutcomeCode.HTTP_OTHER)
