"""What a request takes from its look-up: the entry for libcurl, or the result when it cannot be sent."""

import re
from functools import lru_cache
from typing import Final

from loyalpro.delivery.attempt import OutcomeCode, SendResult, Timings
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.resolver import ResolutionStatus

_MAX_ADDRESSES: Final = 16
_HTTPS_PORT: Final = "443"
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
_MS_PER_S: Final = 1_000

_NOT_SENT: Final = {
    ResolutionStatus.NO_ADDRESS: (OutcomeCode.DNS_FAILED, "The host name has no address."),
    ResolutionStatus.NO_ANSWER: (OutcomeCode.DNS_FAILED, "The DNS servers gave no usable answer for the host name."),
    ResolutionStatus.NO_TIME: (OutcomeCode.TIMEOUT, "The host name could not be looked up in time."),
}


@lru_cache(maxsize=4_096)
def host_of(url: str) -> tuple[str, str]:
    """Return the host name and the port of an endpoint URL. The name is empty when the host is an address.

    libcurl reads a host whose last label is a number as an IPv4 address, in whatever form it is spelled.
    """
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    if authority.startswith("["):
        return "", authority.rpartition("]:")[2]
    host, _, port = authority.partition(":")
    return "" if _NUMERIC.fullmatch(host) else host.lower(), port or _HTTPS_PORT


@lru_cache(maxsize=4_096)
def resolve_entries(url: str, addresses: tuple[str, ...], policy: AddressPolicy) -> list[str]:
    """Return the entries for CURLOPT_RESOLVE: of the addresses of the host, those that deliveries may reach.

    When none is allowed, the entry has one of them all the same, and the check before the connection refuses it. The `+`
    lets libcurl forget the entry after a minute.
    """
    if not addresses:
        return []
    name, port = host_of(url)
    allowed = [each for each in addresses if policy.allows(each)] or addresses[:1]
    spelled = ",".join(f"[{each}]" if ":" in each else each for each in allowed[:_MAX_ADDRESSES])
    return [f"+{name}:{port}:{spelled}"]


def not_sent(status: ResolutionStatus, waited_s: float) -> SendResult:
    """Return the result of a request whose host name has no known address. `waited_s`: the duration of the look-up."""
    failure, detail = _NOT_SENT[status]
    waited_ms = round(waited_s * _MS_PER_S, 3)
    return SendResult(None, failure, detail, None, Timings(waited_ms, None, None, None, waited_ms))
