"""What happened to a delivery, in sentences for its owner. Pure functions of what was recorded."""

from collections.abc import Mapping
from typing import Final, Literal

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.kernel.clock import MS_PER_S
from loyalpro.kernel.record import record
from loyalpro.webhooks.deliveries import DeliveryDetails
from loyalpro.webhooks.entities import PastRequest


@record
class Explanation:
    """How a request ended. `label`: in a word or two. `sentence`: what happened. `advice`: what to look at, if anything."""

    label: str
    sentence: str
    advice: str | None = None


@record
class Verdict:
    """What the answer to a forged delivery shows of its receiver, and a sentence that says so."""

    result: Literal["pending", "refused", "accepted", "undecided"]
    detail: str


_GOOD: Final = "Good: it refuses what is not from us."
_BAD: Final = "It accepted a forged event. Its check does not work."
_PENDING: Final = "Sent. Waiting for your endpoint."
_UNDECIDED: Final = "This does not tell whether it checks signatures: it should answer 401."

_LOOK_AT: Final = "Does it have this endpoint's secret? Does it read the raw body?"
_CLIENT_ERRORS: Final[Mapping[int, tuple[str, str | None]]] = {
    400: (": it could not read the request, or refused its signature", _LOOK_AT),
    401: (": it refused the signature, or asks for a sign-in", _LOOK_AT),
    403: (": it refused the signature, or what stands in front of it did", f"{_LOOK_AT} Is CSRF switched off?"),
    404: (": it knows no such path", "Is the path right?"),
    405: (": it does not take POST here", "It has to take POST at this path."),
    408: (": it waited too long for the request", None),
    409: (": it refused the event as a conflict", "If it has seen the event before, it should answer 200."),
    413: (": the body is too large for it", "Its limit must be 64 KiB or more."),
    415: (": it does not take JSON", "It has to take Content-Type: application/json."),
    422: (": it refused what the event says", None),
    429: (": it asks for fewer requests", "A rate limit can be set for the endpoint."),
}  # fmt: skip
_SERVER_ERRORS: Final[Mapping[int, str]] = {
    500: ", an error of its own",
    502: ": what stands in front of it got no valid answer from it",
    503: ": it is not available now",
    504: ": what stands in front of it waited too long for it",
}
_WITHOUT_ANSWER: Final[Mapping[OutcomeCode, Explanation]] = {
    OutcomeCode.DNS_FAILED: Explanation(
        "No address", "The host name could not be looked up.", "Look at its DNS record and its DNS servers."
    ),
    OutcomeCode.CONNECT_FAILED: Explanation(
        "No connection", "No connection could be made.", "Look at the firewall, and whether the server listens."
    ),
    OutcomeCode.TLS_FAILED: Explanation(
        "TLS failed", "No secure connection could be made.", "Look at its TLS versions and ciphers."
    ),
    OutcomeCode.TLS_CERTIFICATE_EXPIRED: Explanation(
        "Certificate", "Its certificate has expired.", "Renew the certificate."
    ),
    OutcomeCode.TLS_CERTIFICATE_NOT_YET_VALID: Explanation(
        "Certificate", "Its certificate is not valid yet.", "Look at its dates, and at the clocks."
    ),
    OutcomeCode.TLS_HOSTNAME_MISMATCH: Explanation(
        "Certificate", "Its certificate is for another name.", "Look at its subject alternative names."
    ),
    OutcomeCode.TLS_UNTRUSTED: Explanation(
        "Certificate",
        "The issuer of its certificate is not trusted.",
        "It has to send the intermediate certificate too.",
    ),
    OutcomeCode.CONNECTION_LOST: Explanation(
        "Connection lost", "The connection ended before it answered.", "Look at proxies and restarts."
    ),
    OutcomeCode.INVALID_RESPONSE: Explanation(
        "Not HTTP", "What it answered is not HTTP.", "Look at the program that listens there."
    ),
    OutcomeCode.RESPONSE_HEADERS_TOO_LARGE: Explanation(
        "Large headers", "Its answer has too many headers.", "Look at cookies and debug headers."
    ),
    OutcomeCode.TARGET_NOT_ALLOWED: Explanation(
        "Not public", "Its name leads to an address that is not public, so nothing was sent.", "Look at its DNS record."
    ),
    OutcomeCode.INTERRUPTED: Explanation(
        "Interrupted", "LoyalPro stopped while this was being sent. It is sent again; it may have arrived."
    ),
    OutcomeCode.INTERNAL_ERROR: Explanation("Our error", "This went wrong on our side. It is tried again."),
}


def explanation(request: PastRequest) -> Explanation:
    """How a request ended."""
    outcome, status = OutcomeCode(request.outcome), request.response_status
    if outcome is OutcomeCode.TIMEOUT:
        waited = "" if request.total_ms is None else f" in {request.total_ms / MS_PER_S:.0f} s"
        return Explanation(
            "No answer", f"The endpoint did not answer{waited}.", "Answer first, and do slow work later."
        )
    if outcome in _WITHOUT_ANSWER:
        return _WITHOUT_ANSWER[outcome]
    rest, advice = _answered(outcome, status or 0)
    return Explanation(str(status), f"The endpoint answered {status}{rest}.", advice)


def label_of(outcome: str, response_status: int | None) -> str:
    """How attempts ended, in a word or two: `503`, `No connection`."""
    code = OutcomeCode(outcome)
    if code is OutcomeCode.TIMEOUT:
        return "No answer"
    if code in _WITHOUT_ANSWER:
        return _WITHOUT_ANSWER[code].label
    return str(response_status) if response_status else code.value


def _answered(outcome: OutcomeCode, status: int) -> tuple[str, str | None]:
    """What follows the status in the sentence, and the advice."""
    match outcome:
        case OutcomeCode.SUCCEEDED:
            return "", None
        case OutcomeCode.HTTP_3XX:
            return ", a redirect, which is never followed", "Register the address that it leads to."
        case OutcomeCode.GONE:
            return ": it is gone, so the endpoint was disabled", "Enable the endpoint, or delete it."
        case OutcomeCode.HTTP_4XX:
            return _CLIENT_ERRORS.get(status, (": it refused the request", None))
        case OutcomeCode.HTTP_5XX:
            return _SERVER_ERRORS.get(status, ", an error of its own"), "Look in its log."
        case _:
            return ", which is no answer to a POST", "Look at the proxy in front of it."


def verdict(details: DeliveryDetails) -> Verdict:
    """What a forged delivery has shown so far, by its last attempt."""
    if not details.attempts or details.attempts[-1].deciding.outcome == OutcomeCode.INTERRUPTED:
        return Verdict("pending", _PENDING)
    request = details.attempts[-1].deciding
    if request.outcome == OutcomeCode.SUCCEEDED:
        return Verdict("accepted", _BAD)
    if request.response_status in (400, 401, 403):
        return Verdict("refused", _GOOD)
    answered = request.response_status is not None
    sentence = f"The endpoint answered {request.response_status}." if answered else explanation(request).sentence
    return Verdict("undecided", f"{sentence} {_UNDECIDED}")
