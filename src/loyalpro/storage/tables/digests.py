"""The digests that are stored of random texts, such as API keys and the tokens of web sessions."""

import hashlib


def digest_of(text: str) -> bytes:
    """32 bytes. One fast hash is enough because these texts are random, not chosen by people.

    The time of a look-up by digest reveals nothing about any other text.
    """
    return hashlib.sha256(text.encode()).digest()
