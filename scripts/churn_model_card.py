"""Writes docs/churn-model-card.md: how well the churn models predict what the customers of CDNOW did next.

The text is that of churn_model_card.md beside this file, with the numbers filled in.

`python -m scripts.churn_model_card` writes it; with `--check` it writes nothing, and exits with 1 when the page is not current.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, TypeAlias

from loyalpro.kernel.record import record
from loyalpro.loyalty.churn.features import Features, program_gap_days
from loyalpro.loyalty.churn.fit import LEAST_CUSTOMERS, LEAST_REPEAT_CUSTOMERS, Fit, fit
from loyalpro.loyalty.churn.levels import Level, LevelRules, next_standing
from loyalpro.loyalty.churn.mbg_nbd import bg_nbd, mbg_nbd, p_alive, p_buy
from loyalpro.loyalty.churn.score import HORIZON_DAYS, gap_score, model_score
from scripts import cdnow

_TEXT: Final = Path(__file__).with_suffix(".md")
PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "churn-model-card.md"
FOLLOWED_DAYS: Final = (cdnow.FOLLOWED_UNTIL - cdnow.OBSERVED_UNTIL).days
_DECILES: Final = 10
_ALARM: Final = 0.8

Predictor: TypeAlias = Callable[[Features], float]


@record
class Customer:
    """A customer of CDNOW: what the models knew of it, and whether it bought in the time that they did not see."""

    known: Features
    returned: bool


@record
class Models:
    """Both models, fitted to the days that were observed, and the typical gap of the program."""

    mbg: Fit
    bg: Fit
    gap_days: float


def customers() -> list[Customer]:
    """Every customer, in the order of its number."""
    days = cdnow.purchase_days()
    return [
        Customer(known, any(day > cdnow.OBSERVED_UNTIL for day in days[number]))
        for number, known in sorted(cdnow.observed().items())
    ]


def fitted(everyone: Sequence[Customer]) -> Models:
    """The models of these customers."""
    histories = [each.known.history for each in everyone]
    mbg, bg, gap_days = fit(histories, mbg_nbd), fit(histories, bg_nbd), program_gap_days(e.known for e in everyone)
    assert mbg is not None
    assert bg is not None
    assert gap_days is not None
    return Models(mbg, bg, gap_days)


def area_under_curve(ranked: Iterable[tuple[float, bool]]) -> float:
    """The chance that a customer that returned has the higher value than one that did not; equal values count half."""
    below = pairs = returned = others = 0.0
    for _, group in groupby(sorted(ranked), key=lambda each: each[0]):
        outcomes = [outcome for _, outcome in group]
        here = sum(outcomes)
        pairs += here * (below + (len(outcomes) - here) / 2)
        below += len(outcomes) - here
        returned, others = returned + here, others + len(outcomes) - here
    return pairs / (returned * others)


def predictors(models: Models) -> Mapping[str, Predictor]:
    """What ranks customers by how likely they are to return, by its name on the page."""
    mbg, bg = models.mbg.parameters, models.bg.parameters
    return {
        "days since the last purchase": lambda known: -known.days_since_last_purchase,
        f"MBG/NBD, chance to buy within {FOLLOWED_DAYS} days": lambda known: p_buy(
            mbg_nbd, mbg, known.history, FOLLOWED_DAYS
        ),
        "number of purchases": lambda known: known.repeat_purchases,
        f"BG/NBD, chance to buy within {FOLLOWED_DAYS} days": lambda known: p_buy(
            bg_nbd, bg, known.history, FOLLOWED_DAYS
        ),
        f"the score (of {HORIZON_DAYS} days)": lambda known: -model_score(known, mbg).value,
        "the score of the fallback": lambda known: -_gap_value(known, models.gap_days),
        "MBG/NBD, chance to be alive": lambda known: p_alive(mbg_nbd, mbg, known.history),
        "BG/NBD, chance to be alive": lambda known: p_alive(bg_nbd, bg, known.history),
    }


def _gap_value(known: Features, gap_days: float) -> float:
    score = gap_score(known, gap_days)
    assert score is not None
    return score.value


def _ranking(everyone: Sequence[Customer], models: Models) -> Iterator[str]:
    yield "| ranked by | all customers | repeat customers |"
    yield "| --- | --- | --- |"
    again = [each for each in everyone if each.known.repeat_purchases]
    for name, value in predictors(models).items():
        areas = [area_under_curve((value(each.known), each.returned) for each in group) for group in (everyone, again)]
        yield f"| {name} | {areas[0]:.3f} | {areas[1]:.3f} |"


def _calibration(everyone: Sequence[Customer], models: Models) -> Iterator[str]:
    mbg = models.mbg.parameters
    chances = [(p_buy(mbg_nbd, mbg, each.known.history, FOLLOWED_DAYS), each.returned) for each in everyone]
    chances.sort(key=lambda each: -each[0])  # not by the outcome too, which would order equal chances
    yield "| tenth of the customers | customers | predicted to buy | bought |"
    yield "| --- | --- | --- | --- |"
    for tenth in range(_DECILES):
        part = chances[len(chances) * tenth // _DECILES : len(chances) * (tenth + 1) // _DECILES]
        yield f"| {tenth + 1} | {len(part)} | {_mean(chance for chance, _ in part)} | {_mean(bought for _, bought in part)} |"
    yield f"| all | {len(chances):,} | {_mean(chance for chance, _ in chances)} | {_mean(bought for _, bought in chances)} |"


def _brier(everyone: Sequence[Customer], models: Models) -> float:
    mbg = models.mbg.parameters
    errors = [p_buy(mbg_nbd, mbg, each.known.history, FOLLOWED_DAYS) - each.returned for each in everyone]
    return sum(error * error for error in errors) / len(errors)


def _mean(values: Iterable[float]) -> str:
    listed = list(values)
    return f"{sum(listed) / len(listed):.3f}" if listed else "-"


def _levels(everyone: Sequence[Customer], value: Predictor) -> Iterator[str]:
    yield "| level | one-time customers | of these not back | repeat customers | of these not back |"
    yield "| --- | --- | --- | --- | --- |"
    for level in ("high", "medium", "low"):
        yield _level_row(level, [each for each in everyone if _level(each.known, value) == level])
    yield _level_row("all", everyone)


def _level_row(name: str, group: Sequence[Customer]) -> str:
    again = [each for each in group if each.known.repeat_purchases]
    once = [each for each in group if not each.known.repeat_purchases]
    return f"| {name} | {len(once):,} | {_not_back(once)} | {len(again):,} | {_not_back(again)} |"


def _level(known: Features, value: Predictor) -> Level:
    standing, _ = next_standing(None, known, value(known), cdnow.OBSERVED_UNTIL, LevelRules(), emit=False)
    return standing.level


def _not_back(group: Sequence[Customer]) -> str:
    return f"{sum(not each.returned for each in group) / len(group):.0%}" if group else "-"


def _by_alive(everyone: Sequence[Customer], models: Models) -> tuple[str, str]:
    """The shares of customers that did not return: with a chance of at least 0.8 to have left, and of the others."""
    mbg = models.mbg.parameters
    flagged = [each for each in everyone if 1 - p_alive(mbg_nbd, mbg, each.known.history) >= _ALARM]
    others = [each for each in everyone if 1 - p_alive(mbg_nbd, mbg, each.known.history) < _ALARM]
    return _not_back(flagged), _not_back(others)


def page() -> str:
    """The text of the page."""
    everyone = customers()
    models = fitted(everyone)
    mbg, rules = models.mbg.parameters, LevelRules()
    repeat = sum(1 for each in everyone if each.known.repeat_purchases)
    flagged, others = _by_alive(everyone, models)
    return _TEXT.read_text("utf-8").format(
        ranking="\n".join(_ranking(everyone, models)),
        calibration="\n".join(_calibration(everyone, models)),
        levels="\n".join(_levels(everyone, lambda known: model_score(known, mbg).value)),
        fallback_levels="\n".join(_levels(everyone, lambda known: _gap_value(known, models.gap_days))),
        customers=len(everyone),
        repeat=repeat,
        not_back=_not_back(everyone),
        days=FOLLOWED_DAYS,
        observed=cdnow.OBSERVED_UNTIL,
        followed=cdnow.FOLLOWED_UNTIL,
        r=mbg.r,
        alpha=mbg.alpha,
        a=mbg.a,
        b=mbg.b,
        log_likelihood=models.mbg.log_likelihood,
        brier=_brier(everyone, models),
        flagged=flagged,
        others=others,
        gap=models.gap_days,
        horizon=HORIZON_DAYS,
        rules=rules,
        least=LEAST_CUSTOMERS,
        least_repeat=LEAST_REPEAT_CUSTOMERS,
    )


def main() -> int:
    """Write the page, or check it; the exit status."""
    text = page()
    if "--check" in sys.argv[1:]:
        current = PAGE.exists() and PAGE.read_text("utf-8") == text
        if not current:
            sys.stderr.write(f"{PAGE.name} is not current. Run make model-card.\n")
        return 0 if current else 1
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
