"""The churn models against lifetimes, which runs in a process and an environment of its own, and on the CDNOW purchases."""

import json
import math
import subprocess
from typing import Any, TypeAlias

import pytest

from loyalpro.loyalty.churn.features import History
from loyalpro.loyalty.churn.fit import fit
from loyalpro.loyalty.churn.mbg_nbd import Model, Parameters, bg_nbd, log_likelihood, mbg_nbd, p_alive, p_buy
from scripts import cdnow, oracle

Published: TypeAlias = tuple[History, ...]

NAMES: dict[Model, str] = {bg_nbd: "BetaGeoFitter", mbg_nbd: "ModifiedBetaGeoFitter"}
MODELS = pytest.mark.parametrize("model", [bg_nbd, mbg_nbd])
FITTED: dict[Model, Parameters] = {
    bg_nbd: Parameters(0.24259, 4.41353, 0.79289, 2.42575),
    mbg_nbd: Parameters(0.52484, 6.18299, 0.89136, 1.61400),
}
GRID = [
    History(repeats, recency, age)
    for age in (1, 13, 38.86, 78)
    for recency in (0, 0.14, 1, 13, 30.43, 78)
    for repeats in (0, 1, 2, 10, 40)
    if recency <= age and (repeats > 0) == (recency > 0)
]
ASK = """
import json, sys
import lifetimes, numpy
question = json.load(sys.stdin)
fitter = getattr(lifetimes, question["fitter"])()
x, recency, age = (numpy.array(column, dtype=float) for column in zip(*question["histories"]))
if question["parameters"]:
    fitter.params_ = dict(zip(("r", "alpha", "a", "b"), question["parameters"]))
    log_params = numpy.log(question["parameters"])
    alive = fitter.conditional_probability_alive(x, recency, age)
    each = [
        -float(fitter._negative_log_likelihood(log_params, x[i:i+1], recency[i:i+1], age[i:i+1], numpy.ones(1), 0))
        for i in range(len(x))
    ]
    new = [float(fitter.probability_of_n_purchases_up_to_time(t, 0)) for t in question["times"]]
    answer = {"alive": [float(value) for value in alive], "log_likelihood": each, "none": new}
else:
    fitter.fit(x, recency, age)
    answer = {"fitted": [float(fitter.params_[name]) for name in ("r", "alpha", "a", "b")]}
json.dump(answer, sys.stdout)
"""
TIMES = (0.1429, 1, 13, 39, 78)


def ask(model: Model, histories: tuple[History, ...] | list[History], fitted: Parameters | None) -> Any:
    question = {
        "fitter": NAMES[model],
        "histories": [(each.repeats, each.recency, each.age) for each in histories],
        "parameters": fitted and (fitted.r, fitted.alpha, fitted.a, fitted.b),
        "times": TIMES,
    }
    command = [str(oracle.python()), "-W", "ignore", "-c", ASK]
    done = subprocess.run(command, input=json.dumps(question), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@MODELS
def test_lifetimes_computes_the_same_probabilities(model: Model) -> None:
    fitted = FITTED[model]
    theirs = ask(model, GRID, fitted)
    assert [p_alive(model, fitted, each) for each in GRID] == pytest.approx(theirs["alive"], rel=1e-9)
    assert [log_likelihood(model, fitted, each) for each in GRID] == pytest.approx(theirs["log_likelihood"], abs=1e-9)


def test_lifetimes_computes_the_same_chance_to_buy_of_a_new_customer() -> None:
    fitted = FITTED[bg_nbd]
    ours = [1 - p_buy(bg_nbd, fitted, History(0, 0, 0), each) for each in TIMES]
    assert ours == pytest.approx(ask(bg_nbd, GRID, fitted)["none"], rel=1e-9)


@MODELS
def test_lifetimes_finds_the_same_parameters_and_none_that_are_likelier(published: Published, model: Model) -> None:
    theirs = Parameters(*ask(model, published, None)["fitted"])
    found = fit(published, model)
    assert found is not None
    ours = found.parameters
    assert (ours.r, ours.alpha, ours.a, ours.b) == pytest.approx((theirs.r, theirs.alpha, theirs.a, theirs.b), rel=1e-3)
    assert found.log_likelihood >= math.fsum(log_likelihood(model, theirs, each) for each in published) - 1e-9


def test_the_raw_purchases_reduce_to_the_published_histories() -> None:
    in_weeks = {
        str(int(customer)): History(each.repeat_purchases, round(each.recency_days / 7, 2), round(each.age_days / 7, 2))
        for customer, each in cdnow.observed().items()
    }
    published = cdnow.published_histories()
    assert len(published) == 2_357
    mismatches = [customer for customer in published if in_weeks[customer] != published[customer]]
    assert mismatches == []
    assert in_weeks.keys() == published.keys()


def test_the_exact_days_give_the_published_fit() -> None:
    in_days = [each.history for each in cdnow.observed().values()]
    found = fit([History(each.repeats, each.recency / 7, each.age / 7) for each in in_days], bg_nbd)
    assert found is not None
    assert round(found.log_likelihood, 3) == -9582.429
