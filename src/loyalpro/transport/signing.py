"""The two signatures of a delivery: the plain HMAC of the body, and the signature of Standard Webhooks 1.0."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

PREFIX: Final = "whsec_"


def new_secret(random_bytes: bytes) -> str:
    """Return a signing secret in the form that the API shows: `whsec_` and the random bytes in base64."""
    return PREFIX + base64.b64encode(random_bytes).decode()


def wrong_secret(delivery_id: str) -> str:
    """Return a secret that no endpoint has, the same one for the same delivery: its signature is wrong on every attempt."""
    return new_secret(hashlib.sha256(delivery_id.encode()).digest())


def sign(
    secrets: Sequence[str], primary: str, event_id: str, timestamp_s: int, body: bytes
) -> tuple[tuple[str, str], ...]:
    """Return the signature headers. `secrets`: all that are valid now. `primary`: the one that signs the plain header."""
    return (
        ("X-LoyalPro-Signature", plain(primary, body)),
        ("webhook-id", event_id),
        ("webhook-timestamp", str(timestamp_s)),
        ("webhook-signature", " ".join(standard(secret, event_id, timestamp_s, body) for secret in secrets)),
    )


def plain(secret: str, body: bytes) -> str:
    """Return the hex HMAC-SHA256 of the exact body; the key is the text of the whole secret, with its prefix."""
    return _hmac(secret.encode(), body).hexdigest()


def standard(secret: str, event_id: str, timestamp_s: int, body: bytes) -> str:
    """Return `v1,<base64>`, the HMAC-SHA256 of `id.timestamp.body`; the key is the decoded base64 after the prefix.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    content = b"%b.%d.%b" % (event_id.encode(), timestamp_s, body)
    return "v1," + base64.b64encode(_hmac(_key(secret), content).digest()).decode()


def _hmac(key: bytes, message: bytes) -> hmac.HMAC:
    mac = _keyed(key).copy()
    mac.update(message)
    return mac


@lru_cache(maxsize=1_024)
def _keyed(key: bytes) -> hmac.HMAC:
    """Keep a keyed HMAC to copy: `hmac.digest` releases the GIL for each signature, and then waits to get it back."""
    return hmac.new(key, digestmod=hashlib.sha256)


@lru_cache(maxsize=1_024)
def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return secret.encode()  # not a Standard Webhooks secret: the spec defines no key for it, so its text is the key
