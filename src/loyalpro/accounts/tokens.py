"""Random texts that let their holder do something. Only their digests are stored."""

import base64
from collections.abc import Callable
from typing import Final

TOKEN_BYTES: Final = 32
_GROUP: Final = 4


def new_token(random_bytes: Callable[[int], bytes]) -> str:
    """43 characters that fit into a cookie and a URL, from 256 random bits."""
    return base64.urlsafe_b64encode(random_bytes(TOKEN_BYTES)).rstrip(b"=").decode()


def new_code(random_bytes: Callable[[int], bytes], size_bytes: int) -> str:
    """A code that people can type, such as `abcd-efgh`, from so many random bytes; a multiple of 5 makes whole groups."""
    text = base64.b32encode(random_bytes(size_bytes)).decode().lower()
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def typed_code(text: str) -> str:
    """A code as `new_code` writes it, from what a person has typed: with any case, spaces and hyphens.

    Base 32 has no 0, 1 and 8, which look like o, l and b.
    """
    plain = "".join(each for each in text.lower() if each.isalnum()).translate(str.maketrans("018", "olb"))
    return "-".join(plain[at : at + _GROUP] for at in range(0, len(plain), _GROUP))
