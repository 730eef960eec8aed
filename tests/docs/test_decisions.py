"""docs/decisions gives a reason for every dependency, and lists every decision with its status."""

import re
import tomllib
from datetime import date

from docs.pages import ROOT

FOLDER = ROOT / "docs" / "decisions"
DECISIONS = sorted(FOLDER.glob("[0-9]*.md"))
HEADINGS = ["## Context", "## Choice", "## Why", "## Rejected"]
DEPENDENCIES = FOLDER / "0006-other-dependencies.md"
DATE = r"(\d{4}-\d\d-\d\d)"
STATUS = re.compile(rf"Status: accepted, {DATE}((?:; changed {DATE}: [^;]+)*)")


def dependencies() -> list[str]:
    """The packages of pyproject.toml: first those of the program, then those of development."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    packages = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return [re.split(r"[\[<>=!~; ]", each)[0] for each in packages]


def reasons() -> dict[str, list[str]]:
    """The table of dependencies: what each package is for, why this one, and what was rejected."""
    lines = re.findall(r"^\| `([\w-]+)` \| (.+) \|$", DEPENDENCIES.read_text("utf-8"), re.MULTILINE)
    return {package: [cell.strip() for cell in cells.split(" | ")] for package, cells in lines}


def test_every_dependency_has_a_reason_and_no_other() -> None:
    assert list(reasons()) == dependencies()
    assert [package for package, cells in reasons().items() if len(cells) != 3 or not all(cells)] == []


def test_a_page_that_is_the_reason_for_a_dependency_chooses_it() -> None:
    for package, (_, why, _) in reasons().items():
        for name in re.findall(r"^\[decision \d+\]\((.+)\)$", why):
            choice = (FOLDER / name).read_text("utf-8").partition("## Choice")[2].partition("## Why")[0]
            assert re.search(rf"`{package}(?:\[\w+\])?`", choice), (package, name)


def test_every_decision_has_its_four_parts_and_its_number() -> None:
    for number, page in enumerate(DECISIONS, 1):
        lines = page.read_text("utf-8").splitlines()
        assert page.name.startswith(f"{number:04d}-")
        assert lines[0].startswith(f"# {number}. ")
        assert [line for line in lines if line.startswith("## ")] == HEADINGS


def test_every_decision_has_a_status_with_dates_in_order() -> None:
    for page in DECISIONS:
        status = STATUS.fullmatch(page.read_text("utf-8").splitlines()[2])
        assert status, page.name
        dates = [date.fromisoformat(each) for each in re.findall(DATE, status[0])]
        assert dates == sorted(dates), page.name


def test_a_reference_by_number_leads_to_the_page_of_that_number() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for number, name in re.findall(r"\[decision (\d+)\]\((?:[\w./]*/)?(\d{4})-", page.read_text("utf-8")):
            assert int(number) == int(name), page.name


def test_the_list_names_every_decision_by_its_title() -> None:
    listed = re.findall(r"^\d+\. \[(.+)\]\((.+)\)$", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    assert [name for _, name in listed] == [page.name for page in DECISIONS]
    titles = [page.read_text("utf-8").splitlines()[0].partition(". ")[2] for page in DECISIONS]
    assert [title for title, _ in listed] == titles
