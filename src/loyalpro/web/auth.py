"""Authentication and authorization: the API key of a request determines its account, what it may do, and how often."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from loyalpro.accounts.api_keys import authenticate_key
from loyalpro.accounts.entities import ApiKey
from loyalpro.accounts.scopes import Scope, require_scope
from loyalpro.kernel.errors import Unauthenticated
from loyalpro.web.services import services_of

_bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer lp_...`")


async def authorize(request: Request, scope: Scope) -> None:
    """Store the key in the state of the request, if it may make this request now.

    Raises `Unauthenticated` for a missing, unknown, revoked or expired key, `RateLimited` for one that has made too many
    requests, and `Forbidden` for one without the scope.
    """
    credentials = await _bearer(request)
    if credentials is None:
        raise Unauthenticated("Send your API key: Authorization: Bearer lp_...", code="missing_api_key")
    api_key, services = credentials.credentials, services_of(request)
    key = await services.runner.lookup(lambda unit: authenticate_key(unit, api_key))
    services.request_limits.take(key)
    services.key_uses.note(key, services.clock.now_ms())
    require_scope(key, scope)
    request.state.api_key = key


def key_of(request: Request) -> ApiKey:
    """The key of a request that is authorized."""
    key: ApiKey = request.state.api_key
    return key


async def account_id(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """The id of the request's account. Only a route that authorizes first (`StrictRoute`) may depend on it."""
    return key_of(request).account_id


async def caller(request: Request) -> ApiKey:
    """The key of the request: the actor of what it changes."""
    return key_of(request)


AccountId = Annotated[str, Depends(account_id)]
Caller = Annotated[ApiKey, Depends(caller)]
