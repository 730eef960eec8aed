"""The headers of one attempt: its sender, its event, and the signatures that prove both."""

from loyalpro import __version__
from loyalpro.delivery.claims import Claimed
from loyalpro.transport.signing import sign

_USER_AGENT = f"LoyalPro-Webhooks/{__version__}"
_DEFAULT_ACCEPT = ("Accept", "*/*")


def sign_attempt(claimed: Claimed, *, timestamp_s: int, primary: int) -> tuple[tuple[str, str], ...]:
    """Return the headers of one attempt, signed with every secret that is valid now: a retry after a rotation verifies too.

    `timestamp_s`: Unix seconds. `primary`: the index of the secret that signs the plain header, which carries only one
    signature.
    """
    secrets, custom = claimed.target.secrets, claimed.target.headers
    return (
        ("Content-Type", "application/json"),
        ("User-Agent", _USER_AGENT),
        *(() if any(name.lower() == "accept" for name, _ in custom) else (_DEFAULT_ACCEPT,)),
        ("X-LoyalPro-Event-Id", claimed.event_id),
        ("X-LoyalPro-Event-Type", claimed.event_type),
        ("X-LoyalPro-Delivery-Id", claimed.delivery_id),
        ("X-LoyalPro-Attempt", str(claimed.attempt_number)),
        *sign(secrets, secrets[primary], claimed.event_id, timestamp_s, claimed.body),
        *custom,
    )
