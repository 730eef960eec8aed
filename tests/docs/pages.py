"""Reads the documentation for the tests: pages, their headings, links and code blocks."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


def every_page() -> list[Path]:
    """All Markdown pages for readers."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "bench").glob("*.md"))]


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks in these languages, in the order of the page."""
    found = [Block(language, text) for language, text in FENCE.findall(page.read_text("utf-8"))]
    return [block for block in found if block.language in languages]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


def first_cells(page: Path) -> list[str]:
    """The first cell of every table row that starts with something in backticks, without them."""
    return re.findall(r"^\| `([^`]+)`", page.read_text("utf-8"), re.MULTILINE)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, by GitHub's rules."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
