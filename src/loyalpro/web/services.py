"""The services that routes use. The composition root creates them."""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from loyalpro.accounts.key_uses import KeyUses
from loyalpro.accounts.request_limits import RequestLimits
from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import LoyalProError
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.web.client_address import Network
from loyalpro.web.heavy_work import HeavyWork
from loyalpro.web.unit import Unit
from loyalpro.webhooks.endpoint_url import Resolve

Health = Mapping[str, Callable[[], bool]]
"""The checks of `/readyz` by name, such as `delivers`. Each returns whether the process is able to do that now."""


class RequestBatcher(Protocol):
    """Runs concurrent requests of one kind in one database transaction."""

    def change(
        self,
        kind: Hashable,
        request: Any,
        work: Callable[[Unit, Sequence[Any]], Sequence[Any | LoyalProError]],
        /,
        *,
        actor: str,
    ) -> Awaitable[Any]:
        """The result of `work` for this request, once it is durable; an error that is returned in its place is raised."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that a route needs."""

    runner: UnitOfWorkRunner[Unit]
    batcher: RequestBatcher
    clock: Clock
    policy: AddressPolicy
    resolve: Resolve
    health: Health
    metrics: Callable[[], bytes]
    max_endpoints: int
    trusted_proxies: Sequence[Network]
    request_limits: RequestLimits
    url_check_limits: RequestLimits
    key_uses: KeyUses
    causes: Callable[[], Sequence[str]] = tuple
    """What is wrong while a check of `health` fails: a sentence for each cause."""
    body_timeout_s: float = 60.0
    heavy_work: HeavyWork = field(default_factory=HeavyWork)
    keys_in_flight: set[tuple[str, str]] = field(default_factory=set)


def services_of(request: Request) -> Services:
    """The services that the application was built with."""
    services: Services = request.app.state.services
    return services


async def _services(request: Request) -> Services:
    """The same as a dependency. It is async because FastAPI runs plain functions in a thread for each request."""
    return services_of(request)


ServicesDep = Annotated[Services, Depends(_services)]
