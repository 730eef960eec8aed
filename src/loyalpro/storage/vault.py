"""Encrypts secrets for the database with AES-256-GCM. A key id precedes the ciphertext; the owner is associated data."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from loyalpro.kernel.errors import ConfigurationError
from loyalpro.kernel.iteration import pull

_NONCE_BYTES: Final = 12
KEY_ID_BYTES: Final = 4
MIN_KEY_CHARACTERS: Final = 16
_KEY_MISSING: Final = (
    "was encrypted with a key that is no longer configured. Add the old key behind the new one: "
    "LOYALPRO_SECRET_KEY=new,old. A key that LoyalPro made for SQLite is in the file secret.key beside the database."
)


class Vault:
    """Encrypts with the first of its keys, and decrypts with each of them.

    A sealed secret is `key id (4 bytes) | nonce (12 bytes) | ciphertext and tag`. The tag covers `owner` (account and endpoint
    id), so a ciphertext that is copied to another row cannot be decrypted.
    """

    def __init__(self, keys: Sequence[str], random_bytes: Callable[[int], bytes]) -> None:
        if not keys or any(len(key) < MIN_KEY_CHARACTERS for key in keys):
            raise ConfigurationError(
                f"LOYALPRO_SECRET_KEY must hold one or more keys of at least {MIN_KEY_CHARACTERS} characters, newest first; "
                "make one with: openssl rand -base64 32"
            )
        self._random_bytes = random_bytes
        self._ciphers = {key_id: AESGCM(key) for key_id, key in map(_derive, keys)}
        self._newest = pull(iter(self._ciphers))

    def seal(self, secret: str, *, owner: str) -> bytes:
        """`secret`, encrypted with the first key."""
        nonce = self._random_bytes(_NONCE_BYTES)
        return self._newest + nonce + self._ciphers[self._newest].encrypt(nonce, secret.encode(), owner.encode())

    def open(self, sealed: bytes, *, owner: str) -> str:
        """The secret, decrypted. `ConfigurationError` when its key is missing, or when the bytes or the owner are wrong."""
        cipher = self._ciphers.get(sealed[:KEY_ID_BYTES])
        if cipher is None:
            raise ConfigurationError(f"A secret in the database {_KEY_MISSING}")
        nonce, ciphertext = sealed[KEY_ID_BYTES:][:_NONCE_BYTES], sealed[KEY_ID_BYTES + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, ciphertext, owner.encode()).decode()
        except (InvalidTag, ValueError) as error:  # ValueError: the nonce is incomplete
            raise ConfigurationError(
                "A sealed secret in the database is damaged, or belongs to another endpoint."
            ) from error

    def is_newest(self, sealed: bytes) -> bool:
        """Whether a secret is sealed with the first key."""
        return self.key_id(sealed) == self._newest

    @staticmethod
    def key_id(sealed: bytes) -> bytes:
        """The id of the key that a secret is sealed with."""
        return sealed[:KEY_ID_BYTES]

    def require(self, owners: Mapping[bytes, str]) -> None:
        """`ConfigurationError` when the key of one of these key ids is missing; each has an owner of a secret that needs it."""
        for key_id, owner in owners.items():
            if key_id not in self._ciphers:
                raise ConfigurationError(f"A secret of {owner} {_KEY_MISSING}")


def _derive(key: str) -> tuple[bytes, bytes]:
    """The id of a key, and 256 bits derived from its text. The text is not stretched: it has to be strong by itself."""
    derived = HKDF(SHA256(), 32, salt=None, info=b"loyalpro: secrets at rest").derive(key.encode())
    return hashlib.sha256(b"key id" + derived).digest()[:KEY_ID_BYTES], derived
