"""docs/reference/webhooks.md lists the outcomes, event types, headers and retry times of the code."""

import random
import re

from docs.pages import REFERENCE
from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.transport.request import sign_attempt
from support.claims import CLAIMED

TEXT = (REFERENCE / "webhooks.md").read_text("utf-8")


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, their cells without backticks."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip("` ") for cell in row] for row in rows[1:]]


def test_every_outcome_is_listed_in_order() -> None:
    assert [row[0] for row in table("Outcomes")] == [each.value for each in OutcomeCode]


def test_every_event_type_is_listed_with_its_meaning() -> None:
    shown = [(row[0], row[1]) for row in table("The body")]
    assert shown == [(each.name, each.description) for each in EVENT_TYPES.values()]


def test_every_header_is_listed() -> None:
    sent = [name for name, _ in sign_attempt(CLAIMED, timestamp_s=1, primary=0)]
    assert [row[0] for row in table("The request")] == sent


def test_the_retry_times_are_those_of_the_schedule() -> None:
    shown = [tuple(int(cell) for cell in row) for row in table("Retries")]
    planned = nominal_attempts()
    assert planned[: len(shown)] == shown
    assert {wait for _, wait, _ in planned[len(shown) : -1]} == {4 * 3600}
    last, _, at_s = planned[-1]
    assert f"about the {last}th, is due {72 * 3600 - at_s} seconds before" in re.sub(r"\s+", " ", TEXT)


class NoJitter(random.Random):
    """Random numbers that are always the middle of the interval."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def nominal_attempts() -> list[tuple[int, int, int]]:
    """(attempt, its wait, its time) in seconds, when every attempt fails at once."""
    now = 0
    found: list[tuple[int, int, int]] = []
    while True:
        due = RetrySchedule().next_attempt_at(
            attempts=len(found) + 1,
            first_attempt_at=0,
            started_at=now,
            now=now,
            retry_after_ms=None,
            rng=NoJitter(),
        )
        if due is None:
            return found
        found.append((len(found) + 2, (due - now) // 1_000, due // 1_000))
        now = due
