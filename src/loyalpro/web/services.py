"""What the web layer is handed by the composition root, and how routes reach it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import Unauthenticated
from loyalpro.storage.request_batcher import RequestBatcher
from loyalpro.storage.unit_of_work import Transactions
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.endpoint_url import Resolve

Health = Mapping[str, Callable[[], bool]]
"""Each thing that this process is there for, and whether it can do it, asked when somebody wants to know."""


class Wake(Protocol):
    """Tells the engine, after a commit, which endpoints are owed something."""

    def __call__(self, endpoint_ids: Iterable[str], *, urgent: bool = False) -> None:
        """`urgent`: by hand, past any breaker."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that a route needs."""

    transactions: Transactions
    together: RequestBatcher
    clock: Clock
    random_bytes: Callable[[int], bytes]
    policy: AddressPolicy
    resolve: Resolve
    health: Health
    wake: Wake
    wake_duty: Callable[[str], None]
    metrics: Callable[[], bytes]
    keys_in_flight: set[tuple[str, str]] = field(default_factory=set)


def services_of(request: Request) -> Services:
    """The services that the application was built with."""
    services: Services = request.app.state.services
    return services


async def _services(request: Request) -> Services:
    """The same, as a dependency: the framework would give a plain function a thread for each request."""
    return services_of(request)


_bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer lp_...`")


async def authenticate(request: Request) -> None:
    """Remember, for the rest of the request, the account that its API key speaks for."""
    credentials = await _bearer(request)
    if credentials is None:
        raise Unauthenticated("Send your API key: Authorization: Bearer lp_...", code="missing_api_key")
    key = credentials.credentials
    account = await services_of(request).transactions.lookup(lambda unit: unit.accounts.account_of(key))
    if account is None:
        raise Unauthenticated("This API key is unknown or revoked.", code="invalid_api_key")
    request.state.account_id = account


async def account_id(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """The account that the request speaks for. A route that asks for it has to be one that authenticates first."""
    account: str = request.state.account_id
    return account


ServicesDep = Annotated[Services, Depends(_services)]
AccountId = Annotated[str, Depends(account_id)]
