"""The path of a value in a JSON document: the keys and indices that lead to it."""

from collections.abc import Sequence
from typing import Final

Path = tuple[str | int, ...]

_MAX_CHARACTERS: Final = 256
_ELLIPSIS: Final = "..."


def path_text(path: Sequence[str | int]) -> str:
    """`("items", 0, "amount")` -> `items[0].amount`. Longer than 256 characters, it is cut and ends with `...`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
        if len(text) > _MAX_CHARACTERS:
            text = text[: _MAX_CHARACTERS - len(_ELLIPSIS)] + _ELLIPSIS
            break
    return text.encode("utf-8", "replace").decode()
