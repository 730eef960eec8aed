"""API keys: the key of a request determines its account."""

from loyalpro.accounts.ports import AccountsUnit
from loyalpro.kernel.errors import Unauthenticated


def authenticate_key(unit: AccountsUnit, api_key: str) -> str:
    """The id of the account of a key. Raises `Unauthenticated` when the key is unknown or revoked."""
    account_id = unit.api_keys.account_of(api_key)
    if account_id is None:
        raise Unauthenticated("This API key is unknown or revoked.", code="invalid_api_key")
    return account_id
