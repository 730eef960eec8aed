"""Text that somebody else wrote, made safe to look at: what cannot be seen is shown as a mark."""

import re
from typing import Any, Final

from markupsafe import Markup

_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Control characters, overrides of the direction of text, characters without a width or a look, and halves of characters.

Line feeds and tabs are shown as they are, and so are the joiners that scripts and emoji need.
"""
_PICTURES: Final = 0x2400
_LAST_WITH_PICTURE: Final = 0x20
_DELETE: Final = "\x7f"


def shown(text: str) -> str:
    """The text with a mark for each character that would hide, or would change how the rest is read."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSEEN.sub(_mark, text.replace("\r\n", "\n"))


def finalize(value: Any) -> Any:
    """What a template prints for a value: texts with marks; what is markup already as it is."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _mark(found: re.Match[str]) -> str:
    character = found[0]
    if ord(character) <= _LAST_WITH_PICTURE:
        return chr(_PICTURES + ord(character))
    return "␡" if character == _DELETE else f"⟨U+{ord(character):04X}⟩"
