"""docs/architecture.md leads through the code by paths that are short, and that do not come back to a file they have left."""

import re
from itertools import groupby

import pytest

from docs.pages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PATHS = ["A purchase", "A delivery", "A replay", "A rotation", "A periodic job"]
MAX_STEPS = 15
_STEP = re.compile(r"^\d+\. (\*\*)?\[[^\]]+\]\(([^)#]+)#[^)]+\)", re.MULTILINE)


def steps(title: str) -> list[tuple[str, bool]]:
    """The file that each step of a path leads to, and whether the step calls the ones after it."""
    section = PAGE.partition(f"### {title}\n")[2].partition("\n##")[0]
    found = [(file, bool(bold)) for bold, file in _STEP.findall(section)]
    assert len(found) == len(re.findall(r"^\d+\. ", section, re.MULTILINE)), (
        "each step begins with a link to a function"
    )
    return found


def returns(path: list[tuple[str, bool]]) -> list[str]:
    """Files that a path comes back to, but for those of steps that call the next ones."""
    visits = [next(iter(group)) for _, group in groupby(path, key=lambda step: step[0])]
    files = [file for file, calls in visits if not calls]
    return sorted({file for file in files if files.count(file) > 1})


@pytest.mark.parametrize("title", PATHS)
def test_a_path_is_short_and_leaves_each_file_once(title: str) -> None:
    path = steps(title)
    assert 5 <= len(path) <= MAX_STEPS
    assert returns(path) == []


def test_a_path_that_comes_back_is_noticed() -> None:
    assert returns([("a.py", False), ("b.py", False), ("b.py", False), ("c.py", True), ("a.py", False)]) == ["a.py"]
    assert returns([("c.py", True), ("a.py", False), ("c.py", True)]) == []
