"""Seals secrets for the database: AES-256-GCM, a key id in front, the owner as associated data."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from loyalpro.kernel.errors import ConfigurationError

_NONCE_BYTES: Final = 12
KEY_ID_BYTES: Final = 4
SHORTEST_KEY: Final = 16
_PUT_IT_BACK: Final = (
    "was sealed with a key that is not there any more. Put the old key back, behind the new one: "
    "LOYALPRO_SECRET_KEY=new,old. One that LoyalPro made for SQLite stands in the file secret.key beside the database."
)


class Vault:
    """Opens what any of its keys sealed; seals with the first.

    A sealed secret is `key id (4 bytes) | nonce (12) | ciphertext and tag`. `owner` (account and endpoint id) is bound
    into the tag: a ciphertext that is moved to another row does not open.
    """

    def __init__(self, keys: Sequence[str], random_bytes: Callable[[int], bytes]) -> None:
        if not keys or any(len(key) < SHORTEST_KEY for key in keys):
            raise ConfigurationError(
                f"LOYALPRO_SECRET_KEY must hold one or more keys of at least {SHORTEST_KEY} characters, newest first; "
                "make one with: openssl rand -base64 32"
            )
        self._random_bytes = random_bytes
        self._ciphers = {key_id: AESGCM(key) for key_id, key in map(_derive, keys)}
        self._newest = next(iter(self._ciphers))

    def seal(self, secret: str, *, owner: str) -> bytes:
        """Encrypt with the newest key."""
        nonce = self._random_bytes(_NONCE_BYTES)
        return self._newest + nonce + self._ciphers[self._newest].encrypt(nonce, secret.encode(), owner.encode())

    def open(self, sealed: bytes, *, owner: str) -> str:
        """Decrypt with the key that sealed it."""
        cipher = self._ciphers.get(sealed[:KEY_ID_BYTES])
        if cipher is None:
            raise ConfigurationError(f"A secret in the database {_PUT_IT_BACK}")
        nonce, ciphertext = sealed[KEY_ID_BYTES:][:_NONCE_BYTES], sealed[KEY_ID_BYTES + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, ciphertext, owner.encode()).decode()
        except (InvalidTag, ValueError) as error:  # the latter: not even the nonce is whole
            raise ConfigurationError(
                "A sealed secret in the database is damaged, or does not belong where it stands."
            ) from error

    def require(self, endpoints: Mapping[bytes, str]) -> None:
        """Refuse to go on without the key of one of these key ids, each with an endpoint whose secret it opens."""
        for key_id, endpoint_id in endpoints.items():
            if key_id not in self._ciphers:
                raise ConfigurationError(f"The signing secret of endpoint {endpoint_id} {_PUT_IT_BACK}")


def _derive(key: str) -> tuple[bytes, bytes]:
    """A key's id and its 256 bits: any text will do, its strength is its own."""
    derived = HKDF(SHA256(), 32, salt=None, info=b"loyalpro: secrets at rest").derive(key.encode())
    return hashlib.sha256(b"key id" + derived).digest()[:KEY_ID_BYTES], derived
