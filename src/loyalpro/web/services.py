"""The services that routes use. The composition root creates them."""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from loyalpro.accounts.key_uses import KeyUses
from loyalpro.accounts.passwords import Passwords
from loyalpro.accounts.request_limits import RequestLimits
from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import LoyalProError
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.loyalty.bulk.imports import RowFormats
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.web.client_address import Network
from loyalpro.web.heavy_work import HeavyWork
from loyalpro.web.unit import Unit
from loyalpro.webhooks.delivery_story import Schedule
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
    passwords: Passwords
    public_url: str | None = None
    """The address under which people open the dashboard, as browsers write an origin; None when the operator has not set it."""
    base_url: str = "http://127.0.0.1:8700"
    """What links to pass on begin with: the public URL, or else the address on this machine."""
    causes: Callable[[], Sequence[str]] = tuple
    """What is wrong while a check of `health` fails: a sentence for each cause."""
    retention_days: int = 90
    """How long events and deliveries are kept."""
    schedule: Schedule = field(kw_only=True)
    """When deliveries are attempted."""
    random_bytes: Callable[[int], bytes] = field(kw_only=True)
    """Random bytes that nobody can guess."""
    row_formats: RowFormats = field(kw_only=True)
    """The fields and checks of each kind of row that can be imported."""
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
