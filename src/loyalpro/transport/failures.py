"""The outcome code of a transfer that failed before the headers of a response were complete."""

import re
from typing import Final

import pycurl

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.transport.limits import MAX_HEADER_BYTES, MAX_HEADER_LINES, MAX_RECEIVED_BYTES

Failure = tuple[OutcomeCode, str]
"""An outcome code, and a sentence about it."""

_TOO_LARGE: Final = 100  # CURLE_TOO_LARGE, for which pycurl has no name
_HTTP2_STREAM: Final = 92  # CURLE_HTTP2_STREAM

INVALID: Final = (OutcomeCode.INVALID_RESPONSE, "The response is not valid HTTP.")
INCOMPLETE: Final = (OutcomeCode.CONNECTION_LOST, "The connection broke before the headers were complete.")
HEADERS_TOO_LARGE: Final = (
    OutcomeCode.RESPONSE_HEADERS_TOO_LARGE,
    f"The response has more than {MAX_HEADER_BYTES} bytes or {MAX_HEADER_LINES} lines of headers.",
)
TOO_MANY_BYTES: Final = (
    OutcomeCode.INVALID_RESPONSE,
    f"The endpoint sent {MAX_RECEIVED_BYTES} bytes without complete headers of a response.",
)
ENDLESS_HANDSHAKE: Final = (
    OutcomeCode.TLS_FAILED,
    f"The endpoint sent {MAX_RECEIVED_BYTES} bytes without the end of the TLS handshake.",
)
NO_HOST_NAME: Final = (
    OutcomeCode.TLS_HOSTNAME_MISMATCH,
    "The certificate has no subject alternative name of a host; a common name is not enough.",
)
NOT_ALLOWED: Final = (
    OutcomeCode.TARGET_NOT_ALLOWED,
    "The host name resolves to no address that deliveries may reach.",
)
INTERNAL: Final = (OutcomeCode.INTERNAL_ERROR, "The request could not be made because of an error in LoyalPro.")
NO_SOCKET: Final = (
    OutcomeCode.INTERNAL_ERROR,
    "LoyalPro could not open a socket: its limit of open files, or memory, is used up.",
)
_TLS_ALERT: Final = (
    OutcomeCode.TLS_FAILED,
    "The server ended the TLS connection before it answered; it may require a client certificate.",
)
_OTHER_NAME: Final = (OutcomeCode.TLS_HOSTNAME_MISMATCH, "The certificate is for another host name.")
_STREAM_RESET: Final = (OutcomeCode.CONNECTION_LOST, "The HTTP/2 stream was reset before the headers were complete.")

_BY_CODE: Final = {
    pycurl.E_COULDNT_RESOLVE_HOST: (OutcomeCode.DNS_FAILED, "The host name could not be resolved."),
    pycurl.E_COULDNT_CONNECT: (OutcomeCode.CONNECT_FAILED, "No connection could be made."),
    pycurl.E_OPERATION_TIMEDOUT: (OutcomeCode.TIMEOUT, "No complete headers of a response arrived in time."),
    pycurl.E_SSL_CONNECT_ERROR: (OutcomeCode.TLS_FAILED, "The TLS handshake failed."),
    pycurl.E_SSL_CIPHER: (OutcomeCode.TLS_FAILED, "The two sides have no TLS cipher in common."),
    pycurl.E_SSL_CERTPROBLEM: (OutcomeCode.TLS_FAILED, "The server requires a client certificate."),
    pycurl.E_PEER_FAILED_VERIFICATION: (OutcomeCode.TLS_UNTRUSTED, "The certificate is not trusted."),
    pycurl.E_GOT_NOTHING: (OutcomeCode.CONNECTION_LOST, "The connection was closed without a response."),
    pycurl.E_SEND_ERROR: (OutcomeCode.CONNECTION_LOST, "The connection broke while the request was sent."),
    pycurl.E_SEND_FAIL_REWIND: (
        OutcomeCode.CONNECTION_LOST,
        "The connection ended before the endpoint began to answer.",
    ),
    pycurl.E_RECV_ERROR: (OutcomeCode.CONNECTION_LOST, "The connection broke while the response was read."),
    pycurl.E_PARTIAL_FILE: INCOMPLETE,
    _TOO_LARGE: HEADERS_TOO_LARGE,
    pycurl.E_URL_MALFORMAT: INTERNAL,
    pycurl.E_FAILED_INIT: INTERNAL,
    pycurl.E_OUT_OF_MEMORY: INTERNAL,
}
_AMBIGUOUS: Final = {pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR, _HTTP2_STREAM}
_BY_TEXT: Final = (
    (re.compile(r"Too many CONTINUATION frames"), HEADERS_TOO_LARGE),
    (re.compile(r"nghttp2 recv error"), INVALID),
    (re.compile(r"HTTP/2 stream [0-9]+ reset by"), _STREAM_RESET),
    (re.compile(r"SSL routines::.* alert "), _TLS_ALERT),
)
"""In TLS 1.3 the alert for a missing client certificate arrives after the client's side of the handshake."""
_BY_VERIFICATION: Final = {
    9: (OutcomeCode.TLS_CERTIFICATE_NOT_YET_VALID, "The certificate is not valid yet."),
    10: (OutcomeCode.TLS_CERTIFICATE_EXPIRED, "The certificate has expired."),
}
"""OpenSSL's X509_V_ERR_*: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/"""


def failure(code: int, text: str, verification: int) -> Failure:
    """Return the failure of a transfer that libcurl ended.

    `code`: a CURLcode. `text`: libcurl's sentence about it. `verification`: OpenSSL's result for the certificate.
    """
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        if "subject name" in text:  # libcurl compares names itself: OpenSSL has no code for it
            return _OTHER_NAME
        return _BY_VERIFICATION.get(verification, _BY_CODE[code])
    if code in _AMBIGUOUS:
        for pattern, found in _BY_TEXT:
            if pattern.search(text):
                return found
    return _BY_CODE.get(code, INVALID)
