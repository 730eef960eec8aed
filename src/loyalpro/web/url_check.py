"""The check of an endpoint URL while it is typed, for the API and for the dashboard."""

from dataclasses import replace

from loyalpro.web.services import Services
from loyalpro.webhooks.url_check import (
    CHECKS_PER_MINUTE,
    EndpointsWithUrl,
    UrlCheck,
    check_registered,
    check_url,
)


async def checked_url(services: Services, account_id: str, caller: str, text: str) -> UrlCheck:
    """What is known of a URL, and which endpoints have it. `caller`: the actor that the limit counts for.

    Raises `RateLimited`: each check may ask the DNS servers for a name that a stranger has chosen.
    """
    refusal = f"You may check {CHECKS_PER_MINUTE} URLs per minute."
    services.url_check_limits.count(caller, CHECKS_PER_MINUTE, refusal)
    found = await check_url(text, services.policy, services.resolve, account_id)
    if found.url is None:
        return found
    query = EndpointsWithUrl(account_id, found.url)
    registered = await services.runner.read(lambda unit: check_registered(unit, query))
    return replace(found, checks=(*found.checks, *registered))
