"""Both signatures of a delivery: the plain HMAC of the body, and Standard Webhooks 1.0."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

PREFIX: Final = "whsec_"


def new_secret(random_bytes: bytes) -> str:
    """A signing secret, as its owner copies it: `whsec_` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(random_bytes).decode()


def sign(
    secrets: Sequence[str], primary: str, event_id: str, timestamp_s: int, body: bytes
) -> tuple[tuple[str, str], ...]:
    """The signature headers. `secrets` are all that are valid now; the plain header can carry one, `primary`."""
    return (
        ("X-LoyalPro-Signature", plain(primary, body)),
        ("webhook-id", event_id),
        ("webhook-timestamp", str(timestamp_s)),
        ("webhook-signature", " ".join(standard(secret, event_id, timestamp_s, body) for secret in secrets)),
    )


def plain(secret: str, body: bytes) -> str:
    """Hex HMAC-SHA256 of the exact body; the key is the whole secret as text, prefix included."""
    return _hmac(secret.encode(), body).hexdigest()


def standard(secret: str, event_id: str, timestamp_s: int, body: bytes) -> str:
    """`v1,<base64>` of `id.timestamp.body`; the key is what the base64 behind the prefix says."""
    content = b"%b.%d.%b" % (event_id.encode(), timestamp_s, body)
    return "v1," + base64.b64encode(_hmac(_key(secret), content).digest()).decode()


def _hmac(key: bytes, message: bytes) -> hmac.HMAC:
    mac = _keyed(key).copy()
    mac.update(message)
    return mac


@lru_cache(maxsize=1_024)
def _keyed(key: bytes) -> hmac.HMAC:
    """Keyed once and copied: `hmac.digest` would let other threads run for each signature, and wait for them."""
    return hmac.new(key, digestmod=hashlib.sha256)


@lru_cache(maxsize=1_024)
def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return secret.encode()  # a secret of another make: Standard Webhooks does not define it, the text serves
