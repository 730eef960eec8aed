"""Every link of the documentation has a target: a file, a heading, or a function or class after a `#`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pages import every_page, headings, prose

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")


def links(page: Path) -> list[str]:
    found = [markdown or image for markdown, image in LINK.findall(prose(page))]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def names(module: Path) -> set[str]:
    """`function`, `Class` and `Class.method` for everything that a module defines."""
    return set(_names(ast.parse(module.read_text("utf-8")).body, ""))


def _names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for each in body:
        if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + each.name
        if isinstance(each, ast.ClassDef):
            yield from _names(each.body, f"{each.name}.")


def broken(page: Path) -> list[str]:
    return [target for target in links(page) if not resolves(page, target)]


def resolves(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return False
    if not anchor:
        return True
    known = {".py": names, ".md": headings}.get(file.suffix)
    return known is not None and anchor in known(file)


@pytest.mark.parametrize("page", every_page(), ids=lambda page: page.name)
def test_every_link_has_a_target(page: Path) -> None:
    assert broken(page) == []


def test_a_link_without_a_target_is_found(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("class Shop:\n    async def sell(self): ...\ndef buy(): ...\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# One: `two` & three\n[a](code.py) [b](code.py#buy) [c](code.py#Shop.sell) [d](#one-two--three)\n"
        "```\n[in code](nowhere.md)\n```\n[web](https://example.com/x.py#no)\n"
        "[e](code.py#sell) [f](gone.py) [g](page.md#nothing) ![h](gone.svg) [i](code.py#Shop.buy)\n"
    )
    assert broken(page) == ["code.py#sell", "gone.py", "page.md#nothing", "gone.svg", "code.py#Shop.buy"]
