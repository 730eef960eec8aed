"""Where something stands in a JSON document: the keys and indices that lead to it."""

from collections.abc import Sequence
from typing import Final

Path = tuple[str | int, ...]

_LONGEST_TEXT: Final = 256
_LEFT_OUT: Final = "..."


def path_text(path: Sequence[str | int]) -> str:
    """`("items", 0, "amount")` -> `items[0].amount`, and no more than a person reads of a long one."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
        if len(text) > _LONGEST_TEXT:
            text = text[: _LONGEST_TEXT - len(_LEFT_OUT)] + _LEFT_OUT
            break
    return text.encode("utf-8", "replace").decode()
