"""The numbers of docs/churn-model-card.md are what the code computes, and what the literature found."""

import subprocess
import sys

import pytest

from docs.pages import ROOT
from scripts.churn_model_card import Customer, Models, area_under_curve, customers, fitted, predictors


@pytest.fixture(scope="module")
def everyone() -> list[Customer]:
    return customers()


@pytest.fixture(scope="module")
def models(everyone: list[Customer]) -> Models:
    return fitted(everyone)


def test_the_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.churn_model_card", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("MBG/NBD, chance to buy within 273 days", 0.760),
        ("BG/NBD, chance to buy within 273 days", 0.757),
        ("number of purchases", 0.758),
        ("MBG/NBD, chance to be alive", 0.687),
        ("BG/NBD, chance to be alive", 0.316),
    ],
)
def test_the_areas_are_those_of_an_independent_computation(
    everyone: list[Customer], models: Models, name: str, area: float
) -> None:
    value = predictors(models)[name]
    assert round(area_under_curve((value(each.known), each.returned) for each in everyone), 3) == area


def test_an_area_counts_the_pairs_in_the_right_order() -> None:
    assert area_under_curve([(1, False), (2, True)]) == 1
    assert area_under_curve([(2, False), (1, True)]) == 0
    assert area_under_curve([(1, False), (1, True)]) == 0.5
    assert area_under_curve([(1, False), (2, True), (3, False), (3, True)]) == 0.625
