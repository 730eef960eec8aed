"""The names of accounts and keys."""

from typing import Final

from loyalpro.kernel.errors import InvalidInput

MAX_NAME: Final = 100


def checked_name(name: str, *, param: str = "name") -> str:
    """`name` without spaces around it: one line of 1 to 100 printable characters. Raises `InvalidInput`."""
    found = name.strip()
    if not 1 <= len(found) <= MAX_NAME or not found.isprintable():
        raise InvalidInput(
            f"A name is one line of 1 to {MAX_NAME} printable characters.", code="invalid_field", param=param
        )
    return found
