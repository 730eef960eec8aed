"""The name of a browser, from what it says of itself."""

import re
from typing import Final

_BROWSERS: Final = (
    ("Edge", re.compile(r"\bEdgA?/")),
    ("Opera", re.compile(r"\bOPR/")),
    ("Firefox", re.compile(r"\b(Firefox|FxiOS)/")),
    ("Chrome", re.compile(r"\b(HeadlessChrome|Chrome|CriOS)/")),
    ("Safari", re.compile(r"\bSafari/")),
)
"""In this order: most browsers name others, too."""
_SYSTEMS: Final = (
    ("Android", re.compile("Android")),
    ("iOS", re.compile("iPhone|iPad")),
    ("Windows", re.compile("Windows")),
    ("macOS", re.compile("Macintosh")),
    ("Linux", re.compile("Linux")),
)


def name_of(user_agent: str | None) -> str:
    """`Firefox on Linux`; what is not recognized is left out."""
    text = user_agent or ""
    browser = next((name for name, pattern in _BROWSERS if pattern.search(text)), "Another browser")
    system = next((name for name, pattern in _SYSTEMS if pattern.search(text)), None)
    return browser if system is None else f"{browser} on {system}"
