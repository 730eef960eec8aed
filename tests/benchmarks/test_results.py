"""The page of results: a run replaces its own sections and leaves the others as they are."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.measurement import Finding, Goal, Measurement
from bench.results import Conditions, Outcome, section, sections, updated
from bench.run import MEASUREMENTS, RESULTS, chosen, write

TITLES = ["First", "Second", "Third"]
OLD = Conditions(datetime(2026, 11, 26, 22, 39, tzinfo=UTC), "2 cores", "`c6a7979`")
NEW = Conditions(datetime(2026, 11, 28, 9, 5, tzinfo=UTC), "4 cores", "`bd92977`")


def outcome(title: str, measured: str, *, reached: bool | None = True) -> Outcome:
    measurement = Measurement(title.lower(), title, lambda *_: Finding([], ""))
    goal = Goal(f"goal of {title}", "at least 1", measured, reached)
    return Outcome(measurement, 12.3, Finding([goal], f"Details of {title}.\n\n| a |\n|---|\n| {measured} |\n"))


def page_of(*titles: str, measured: str = "old", conditions: Conditions = OLD) -> str:
    new = {title: section(outcome(title, measured), conditions) for title in titles}
    return updated("", new, TITLES)


def goals(page: str) -> list[str]:
    """The rows of the table of goals on top of a page."""
    return re.findall(r"^\| (goal of .+) \|$", page.partition("\n## ")[0], re.MULTILINE)


def test_a_section_names_its_date_command_machine_and_commit() -> None:
    text = section(outcome("First", "5", reached=None), NEW, ["--stores", "sqlite"])
    assert text.startswith("## First\n\nMeasured on 2026-11-28 09:05 UTC, on commit `bd92977`: 4 cores.\n")
    assert "Command: `make bench ARGS='--only first --stores sqlite'`, 12 s.\n" in text
    assert "| goal of First | at least 1 | 5 | not decided |\n" in text


def test_a_small_run_says_so_in_its_section() -> None:
    assert "**A small run" in section(outcome("First", "5"), NEW, small=True)
    assert "**A small run" not in section(outcome("First", "5"), NEW)


def test_a_measurement_that_failed_has_no_section() -> None:
    failed = Outcome(outcome("First", "5").measurement, 1.0, None, "OSError: no space")
    with pytest.raises(ValueError, match="no space"):
        section(failed, NEW)


def test_one_section_is_replaced_and_the_others_keep_every_byte() -> None:
    before = page_of(*TITLES)
    after = updated(before, {"Second": section(outcome("Second", "new"), NEW)}, TITLES)
    assert [title for title in TITLES if sections(before)[title] != sections(after)[title]] == ["Second"]
    assert sections(after)["Second"] == section(outcome("Second", "new"), NEW)


def test_the_table_of_goals_follows_the_sections() -> None:
    after = updated(page_of(*TITLES), {"Second": section(outcome("Second", "new", reached=False), NEW)}, TITLES)
    assert goals(after) == [
        "goal of First | at least 1 | old | yes",
        "goal of Second | at least 1 | new | **no**",
        "goal of Third | at least 1 | old | yes",
    ]


def test_sections_stand_in_the_order_of_the_measurements_whenever_they_were_measured() -> None:
    one_by_one = ""
    for title in reversed(TITLES):
        one_by_one = updated(one_by_one, {title: section(outcome(title, "old"), OLD)}, TITLES)
    assert one_by_one == page_of(*TITLES)


def test_writing_the_same_section_twice_changes_nothing() -> None:
    once = page_of(*TITLES)
    assert updated(once, {"First": sections(once)["First"]}, TITLES) == once
    assert updated(once, {}, TITLES) == once


def test_the_section_of_a_measurement_that_is_gone_is_dropped() -> None:
    assert updated(page_of(*TITLES), {}, ["First", "Third"]) == page_of("First", "Third")


def test_a_page_is_written_in_place_and_without_a_page_a_new_one(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    depth, schedule = (next(each for each in MEASUREMENTS if each.name == name) for name in ("depth", "schedule"))
    for measurement in (schedule, depth):
        write(page, {measurement.title: section(Outcome(measurement, 1.0, Finding([], "Details.")), NEW)})
    assert list(sections(page.read_text("utf-8"))) == [depth.title, schedule.title]


def test_a_normal_run_leaves_out_what_takes_long() -> None:
    everything = {each.name for each in MEASUREMENTS}
    assert everything - {each.name for each in chosen(None, quick=False)} == {
        "memory",
        "import",
        "program-sqlite",
        "program-postgres",
    }
    assert {each.name for each in chosen(None, quick=True)} == everything
    assert [each.name for each in chosen("memory,depth", quick=False)] == ["depth", "memory"]


def test_the_page_in_the_repository_is_one_that_a_run_writes() -> None:
    text = RESULTS.read_text("utf-8")
    titles = [each.title for each in MEASUREMENTS]
    assert updated(text, {}, titles) == text
    assert list(sections(text)) == titles


@pytest.mark.parametrize("measurement", MEASUREMENTS, ids=lambda each: each.name)
def test_every_section_in_the_repository_can_be_repeated(measurement: Measurement) -> None:
    lines = sections(RESULTS.read_text("utf-8"))[measurement.title].splitlines()
    assert re.fullmatch(
        r"Measured on \d{4}-\d\d-\d\d \d\d:\d\d UTC, on commit `[0-9a-f]{7,}`( with changes)?: .+\.", lines[2]
    )
    assert re.fullmatch(rf"Command: `make bench ARGS='--only {measurement.name}( [^`]+)?'`, \d+ s\.", lines[3])


def test_no_other_page_has_results_of_the_same_measurements() -> None:
    pages = {each.name for each in RESULTS.parent.glob("*.md")}
    assert pages == {
        "RESULTS.md",
        "SIMULATION.md",
        "CHAOS.md",
        "MUTANTS.md",
        "FANOUT.md",
        "RECORDING.md",
        "PROGRAM_SIMULATION.md",
    }


def test_the_conditions_name_the_commit_of_the_checkout() -> None:
    assert re.fullmatch(r"`[0-9a-f]{7,}`( with changes)?|unknown", Conditions.now().commit)
