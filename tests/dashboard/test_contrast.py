"""Every pair of ink and ground of the style sheet, in both themes: also those that axe cannot decide, such as text in charts."""

import re
from pathlib import Path
from typing import Final

import pytest

from loyalpro.web import dashboard

STYLE: Final = (Path(dashboard.__file__).parent / "static" / "style.css").read_text("utf-8")
TOKEN: Final = re.compile(r"--([a-z0-9-]+):\s*(?:light-dark\((#[0-9a-f]{6}),\s*(#[0-9a-f]{6})\)|(#[0-9a-f]{6}))\s*;")
TOKENS: Final = {name: (light or both, dark or both) for name, light, dark, both in TOKEN.findall(STYLE)}
SURFACES: Final = ("ground", "page", "surface", "sunken", "hover")
STATES: Final = ("ok", "wait", "bad", "idle")
TEXT: Final = [
    *((ink, surface) for ink in ("ink", "ink-2", "ink-3") for surface in SURFACES),
    *((ink, "accent-soft") for ink in ("ink", "ink-2", "accent")),
    *(("accent", surface) for surface in SURFACES),
    ("on-accent", "accent-fill"),
    *((state, f"{state}-soft") for state in STATES),
    *((state, surface) for state in ("ok", "wait", "bad") for surface in ("page", "surface")),
    *((code, "sunken") for code in ("code-key", "code-str", "code-num", "code-dim")),
]
GRAPHICS: Final = [
    *((f"{state}-solid", surface) for state in ("ok", "wait", "bad") for surface in ("surface", "page")),
    *(
        (f"phase-{phase}", surface)
        for phase in ("dns", "connect", "tls", "wait", "body")
        for surface in ("surface", "accent-soft")
    ),
    *(("line-strong", surface) for surface in ("page", "surface")),
]


def luminance(color: str) -> float:
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_measure_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_is_readable_on_each_ground_that_it_stands_on(theme: int) -> None:
    found = {pair: round(contrast(TOKENS[pair[0]][theme], TOKENS[pair[1]][theme]), 2) for pair in TEXT}
    assert {pair: value for pair, value in found.items() if value < 5.0} == {}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_shapes_stand_out_from_each_ground(theme: int) -> None:
    found = {pair: round(contrast(TOKENS[pair[0]][theme], TOKENS[pair[1]][theme]), 2) for pair in GRAPHICS}
    assert {pair: value for pair, value in found.items() if value < 3.3} == {}


def test_every_color_token_is_read() -> None:
    assert len(TOKENS) >= 35
    assert {"ink", "ink-3", "bad-soft", "on-accent", "phase-dns"} <= TOKENS.keys()
