"""API keys: each request names its account by one."""

from loyalpro.accounts.ports import AccountsUnit
from loyalpro.kernel.errors import Unauthenticated


def authenticate_key(unit: AccountsUnit, api_key: str) -> str:
    """The id of the account that a key speaks for, or `Unauthenticated`."""
    account_id = unit.api_keys.account_of(api_key)
    if account_id is None:
        raise Unauthenticated("This API key is unknown or revoked.", code="invalid_api_key")
    return account_id
