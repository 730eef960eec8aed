"""The risk level of a customer from one scoring run to the next, and whether a run announces what rises.

    low --score >= 0.6--> medium --score >= 0.8--> high
     ^--- score <= 0.4, or a purchase ---'----------'

A level falls to low only, so it does not flap while the score wavers around a threshold or a new fit moves all scores.
"""

from dataclasses import fields
from datetime import date, timedelta
from typing import Final, Literal, TypeAlias

from loyalpro.kernel.record import record
from loyalpro.loyalty.churn.features import Features
from loyalpro.loyalty.churn.mbg_nbd import Parameters

Level: TypeAlias = Literal["low", "medium", "high"]
RiskLevel: TypeAlias = Literal["medium", "high"]
Announcement: TypeAlias = Literal["report", "silent", "emit"]
"""What a run does: it only reports scores, it sets levels, or it sets levels and emits an event for each rise."""

_RANKS: Final[dict[Level, int]] = {"low": 0, "medium": 1, "high": 2}
_LARGEST_MOVE: Final = 0.5
"""A parameter that moved by a larger part of itself moves scores although no customer has changed."""


@record
class LevelRules:
    """When a level is entered and left, and when its event is held back."""

    enter: float = 0.6
    high: float = 0.8
    exit: float = 0.4
    cooldown_days: int = 30
    least_age_days: int = 30
    least_silence_days: int = 14


@record
class Standing:
    """A customer's level after a run. `last_purchase_on` is what that run knew; the events are the last of each level."""

    level: Level
    since: date
    last_purchase_on: date
    medium_event_on: date | None = None
    high_event_on: date | None = None


@record
class Rise:
    """A rise of the level that an event announces."""

    level: RiskLevel
    previous_level: Level


@record
class LastRun:
    """The last run that set levels. `parameters` None: it used the fallback."""

    as_of: date
    parameters: Parameters | None


@record
class NextRun:
    """A run that is about to start. `requested`: by a call, not by the schedule. `baseline`: the call wants no events."""

    as_of: date
    parameters: Parameters | None
    requested: bool = False
    baseline: bool = False


def announcement(run: NextRun, last: LastRun | None, *, scheduled_before: bool, imported: bool) -> Announcement:
    """What a run does. `imported`: purchases were imported since `last`.

    The first scheduled run, and one whose scores moved for other reasons than silence, would announce many customers at once.
    """
    if last is not None and run.as_of < last.as_of:
        return "report"
    if run.requested:
        return "silent" if run.baseline else "emit"
    comparable = last is not None and scheduled_before and not imported and not moved(last.parameters, run.parameters)
    return "emit" if comparable else "silent"


def moved(old: Parameters | None, new: Parameters | None) -> bool:
    """Whether any parameter moved by more than half of itself, or a model takes the place of the fallback or the reverse."""
    if old is None or new is None:
        return old is not new
    pairs = [(getattr(old, field.name), getattr(new, field.name)) for field in fields(Parameters)]
    return any(abs(after - before) > _LARGEST_MOVE * before for before, after in pairs)


def next_standing(
    standing: Standing | None, customer: Features, score: float, as_of: date, rules: LevelRules, *, emit: bool
) -> tuple[Standing, Rise | None]:
    """The level after a run as of a day, and the rise to announce. `standing` None: the customer has not been scored before.

    A rise whose level was announced within the cooldown changes the level only, as every rise does without `emit`.
    """
    last_purchase_on = as_of - timedelta(days=customer.days_since_last_purchase)
    bought = standing is not None and last_purchase_on > standing.last_purchase_on
    before = "low" if standing is None or bought else standing.level
    level = _level(before, customer, score, rules)
    risen = Rise(level, before) if level != "low" and _RANKS[level] > _RANKS[before] else None
    known = standing or Standing("low", as_of, last_purchase_on)
    rise = risen if risen and emit and not _cooling(known, risen.level, as_of, rules) else None
    return _stood(known, level, as_of, last_purchase_on, rise), rise


def _level(before: Level, customer: Features, score: float, rules: LevelRules) -> Level:
    if score <= rules.exit:
        return "low"
    if customer.age_days < rules.least_age_days or customer.days_since_last_purchase < rules.least_silence_days:
        return before
    entered: Level = "high" if score >= rules.high else "medium" if score >= rules.enter else "low"
    return max(before, entered, key=_RANKS.__getitem__)


def _cooling(standing: Standing, level: RiskLevel, as_of: date, rules: LevelRules) -> bool:
    last = standing.high_event_on if level == "high" else standing.medium_event_on
    return last is not None and (as_of - last).days < rules.cooldown_days


def _stood(old: Standing, level: Level, as_of: date, last_purchase_on: date, rise: Rise | None) -> Standing:
    announced = rise.level if rise else None
    return Standing(
        level,
        old.since if level == old.level else as_of,
        last_purchase_on,
        as_of if announced == "medium" else old.medium_event_on,
        as_of if announced == "high" else old.high_event_on,
    )
