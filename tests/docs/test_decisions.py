"""docs/decisions gives a reason for every dependency, and lists every decision."""

import re
import tomllib

from docs.pages import ROOT

FOLDER = ROOT / "docs" / "decisions"
DECISIONS = sorted(FOLDER.glob("[0-9]*.md"))
HEADINGS = ["## Context", "## Choice", "## Why", "## Rejected"]


def dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {re.split(r"[\[<>=!~; ]", each)[0] for each in wanted}


def test_every_dependency_has_a_reason() -> None:
    chosen = "".join(page.read_text("utf-8").partition("## Why")[0] for page in DECISIONS)
    named = set(re.findall(r"`([\w-]+)(?:\[\w+\])?`", chosen))
    assert dependencies() - named == set()


def test_every_decision_has_its_four_parts_and_its_number() -> None:
    for number, page in enumerate(DECISIONS, 1):
        lines = page.read_text("utf-8").splitlines()
        assert page.name.startswith(f"{number:04d}-")
        assert lines[0].startswith(f"# {number}. ")
        assert [line for line in lines if line.startswith("## ")] == HEADINGS


def test_the_list_names_every_decision_by_its_title() -> None:
    listed = re.findall(r"^\d+\. \[(.+)\]\((.+)\)$", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    assert [name for _, name in listed] == [page.name for page in DECISIONS]
    titles = [page.read_text("utf-8").splitlines()[0].partition(". ")[2] for page in DECISIONS]
    assert [title for title, _ in listed] == titles
