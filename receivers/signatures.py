"""Verification of the two signatures of a webhook, written from their public descriptions."""

import base64
import hashlib
import hmac
from collections.abc import Mapping


def is_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether both signatures of a request are valid. Header names are in lower case."""
    standard = standard_signature(secret, headers.get("webhook-id", ""), headers.get("webhook-timestamp", ""), body)
    plain = plain_signature(secret, body)
    return headers.get("x-loyalpro-signature") == plain and standard in headers.get("webhook-signature", "").split()


def plain_signature(secret: str, body: bytes) -> str:
    """The value of `X-LoyalPro-Signature`: HMAC-SHA256 of the body, in hexadecimal; the key is the secret as text."""
    return hmac.digest(secret.encode(), body, hashlib.sha256).hex()


def standard_signature(secret: str, webhook_id: str, timestamp: str, body: bytes) -> str:
    """One of the values of `webhook-signature`, as Standard Webhooks 1.0 defines it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    message = b".".join((webhook_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, message, hashlib.sha256)).decode()
