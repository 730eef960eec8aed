"""What can be said of an endpoint URL while it is typed. Nothing here connects, and nothing names an address that was found."""

from collections.abc import Sequence
from typing import Final, Literal

from loyalpro.kernel.errors import InvalidInput, NameNotLookedUp
from loyalpro.kernel.record import record
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.resolver import ResolutionStatus
from loyalpro.webhooks.endpoint_url import EndpointUrl, Resolve, canonical_url, is_allowed, look_up
from loyalpro.webhooks.entities import Endpoint
from loyalpro.webhooks.ports import WebhooksUnit

Subject = Literal["https", "url", "port", "name", "address", "registered"]
"""What a check looks at. `url`: the form of the whole, only when it is wrong."""
CheckResult = Literal["passed", "warning", "failed"]
"""`warning`: an endpoint may have the URL nevertheless. `failed`: it may not."""

CHECKS_PER_MINUTE: Final = 30
_MOST_NAMED: Final = 3
_ONLY_HTTPS: Final = "Webhooks are only sent over HTTPS. Put https:// in front."
_NO_NAME: Final = "This name does not exist."
_NO_ANSWER: Final = "The DNS servers do not answer for this name. It is looked up again for every delivery."
_NO_TIME: Final = "There was no time to look this name up. It is looked up when the endpoint is added."
_NAME_NOT_PUBLIC: Final = "This name leads to an address that is not public. Nothing is sent there."
_ADDRESS_NOT_PUBLIC: Final = "This address is not public. Nothing is sent there."


@record
class Check:
    """One check of a URL. `detail`: what it found, in words for people."""

    subject: Subject
    result: CheckResult
    detail: str


@record
class UrlCheck:
    """The checks of a URL, in the order in which they were made. `url`: its canonical spelling; None when it has none."""

    url: str | None
    checks: tuple[Check, ...]

    @property
    def accepted(self) -> bool:
        """Whether an endpoint may have the URL, as far as is known now."""
        return all(each.result != "failed" for each in self.checks)


@record
class EndpointsWithUrl:
    """Asks which endpoints of an account have a URL in its canonical spelling."""

    account_id: str
    url: str


async def check_url(text: str, policy: AddressPolicy, resolve: Resolve, account_id: str) -> UrlCheck:
    """Check a URL as `public_url` does, and say what was found instead of refusing it. Looks up the host name."""
    try:
        url = canonical_url(text.strip(), policy)
    except InvalidInput as error:
        return UrlCheck(None, _refused(error))
    found = Check("port", "passed", f"Port {url.port}"), await _target(url, policy, resolve, account_id)
    return UrlCheck(url.url, (_HTTPS, *found))


def check_registered(unit: WebhooksUnit, query: EndpointsWithUrl) -> tuple[Check, ...]:
    """A warning that names the endpoints that have the URL already; nothing when there are none."""
    found = unit.endpoints.with_url(query.account_id, query.url, _MOST_NAMED + 1)
    return (Check("registered", "warning", _exists(found)),) if found else ()


_HTTPS: Final = Check("https", "passed", "HTTPS")


def _refused(error: InvalidInput) -> tuple[Check, ...]:
    if error.code == "https_required":
        return (Check("https", "failed", _ONLY_HTTPS),)
    if error.code == "target_not_allowed":
        return _HTTPS, Check("address", "failed", _ADDRESS_NOT_PUBLIC)
    return _HTTPS, Check("url", "failed", error.detail)


async def _target(url: EndpointUrl, policy: AddressPolicy, resolve: Resolve, account_id: str) -> Check:
    if url.address is not None:
        return Check("address", "passed", f"{url.host} is {_kind([url.host], policy)}")
    try:
        resolution = await look_up(url.host, resolve, account_id)
    except NameNotLookedUp:
        return Check("name", "warning", _NO_TIME)
    if not is_allowed(url.host, resolution.addresses, policy):
        return Check("address", "failed", _NAME_NOT_PUBLIC)
    if resolution.status is ResolutionStatus.FOUND:
        return Check("address", "passed", f"{url.host} leads to {_kind(resolution.addresses, policy)}")
    return Check("name", "warning", _NO_ANSWER if resolution.status is ResolutionStatus.NO_ANSWER else _NO_NAME)


def _kind(addresses: Sequence[str], policy: AddressPolicy) -> str:
    specially = any(map(policy.allows_specially, addresses))
    return "an address that the operator allows" if specially else "a public address"


def _exists(found: Sequence[Endpoint]) -> str:
    names = [each.description or each.id for each in found[:_MOST_NAMED]]
    if len(found) == 1:
        return f"An endpoint with this URL exists: {names[0]}."
    more = " and others" if len(found) > _MOST_NAMED else ""
    return f"Endpoints with this URL exist: {', '.join(names)}{more}."
