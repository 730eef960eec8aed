"""Authentication: the API key of a request determines its account."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from loyalpro.accounts.api_keys import authenticate_key
from loyalpro.kernel.errors import Unauthenticated
from loyalpro.web.services import services_of

_bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer lp_...`")


async def authenticate(request: Request) -> None:
    """Store the id of the account in the state of the request. Raises `Unauthenticated` for a missing or unknown key."""
    credentials = await _bearer(request)
    if credentials is None:
        raise Unauthenticated("Send your API key: Authorization: Bearer lp_...", code="missing_api_key")
    api_key = credentials.credentials
    request.state.account_id = await services_of(request).runner.lookup(lambda unit: authenticate_key(unit, api_key))


async def account_id(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """The id of the request's account. Only a route that authenticates first (`StrictRoute`) may depend on it."""
    account: str = request.state.account_id
    return account


AccountId = Annotated[str, Depends(account_id)]
