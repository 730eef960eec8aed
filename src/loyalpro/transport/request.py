"""The headers of one attempt: who it is from, what it carries, and the signatures that prove it."""

from loyalpro import __version__
from loyalpro.delivery.ports import Claimed
from loyalpro.transport.signing import sign

_USER_AGENT = f"LoyalPro-Webhooks/{__version__}"
_ACCEPT = ("Accept", "*/*")


def sign_attempt(claimed: Claimed, *, timestamp_s: int, primary: int) -> tuple[tuple[str, str], ...]:
    """Signed at send time with every secret that is valid now, so a retry verifies after a rotation too.

    `primary` is the index of the one secret that signs the plain header, which can carry only one.
    """
    secrets, owners = claimed.target.secrets, claimed.target.headers
    return (
        ("Content-Type", "application/json"),
        ("User-Agent", _USER_AGENT),
        *(() if any(name.lower() == "accept" for name, _ in owners) else (_ACCEPT,)),
        ("X-LoyalPro-Event-Id", claimed.event_id),
        ("X-LoyalPro-Event-Type", claimed.event_type),
        ("X-LoyalPro-Delivery-Id", claimed.delivery_id),
        ("X-LoyalPro-Attempt", str(claimed.attempt_number)),
        *sign(secrets, secrets[primary], claimed.event_id, timestamp_s, claimed.body),
        *owners,
    )
