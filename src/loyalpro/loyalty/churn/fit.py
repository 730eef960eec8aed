"""Finds the parameters of a model that make the purchases of an account's customers most likely."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from math import exp, log
from operator import itemgetter
from typing import Final, TypeAlias

from loyalpro.kernel.record import record
from loyalpro.loyalty.churn.features import Features, History
from loyalpro.loyalty.churn.mbg_nbd import Model, Parameters, log_density, mbg_nbd, terms
from loyalpro.loyalty.churn.nelder_mead import Point, minimize

MOST_CUSTOMERS: Final = 20_000
LEAST_CUSTOMERS: Final = 200
LEAST_REPEAT_CUSTOMERS: Final = 50
_BOUND: Final = 12.0
"""Logarithms of parameters stay within +- this; that of `alpha` with the highest age as the unit of time."""
_TOLERANCE: Final = 1e-8
_STARTS: Final[tuple[Point, ...]] = ((0.0, 0.0, 0.0, 0.0), (-1.0, -2.0, -1.0, 1.0))

_Groups: TypeAlias = dict[int, list[tuple[int, float, float]]]
"""Customers by repeats: how many of them have a recency and an age."""


@record
class Fit:
    """The parameters, how many customers they come from, and the logarithm of those customers' likelihood."""

    parameters: Parameters
    customers: int
    log_likelihood: float


class Sample:
    """At most `most` customers of all that were added: those whose ids have the smallest hashes.

    The choice does not depend on the order or on the other customers, so that one week's fit is comparable with the next.
    """

    def __init__(self, most: int = MOST_CUSTOMERS) -> None:
        self._most = most
        self._customers: list[tuple[bytes, Features]] = []

    def add(self, customers: Iterable[tuple[str, Features]]) -> None:
        """Add customers by id."""
        self._customers += [(hashlib.sha256(id_.encode()).digest(), customer) for id_, customer in customers]
        if len(self._customers) > 2 * self._most:
            self._customers = self._smallest()

    def customers(self) -> list[Features]:
        """The customers that were chosen."""
        return [customer for _, customer in self._smallest()]

    def _smallest(self) -> list[tuple[bytes, Features]]:
        return nsmallest(self._most, self._customers, key=itemgetter(0))


def is_enough(histories: Sequence[History]) -> bool:
    """Whether there are at least 200 customers, and 50 that bought again."""
    repeat_customers = sum(1 for each in histories if each.repeats)
    return len(histories) >= LEAST_CUSTOMERS and repeat_customers >= LEAST_REPEAT_CUSTOMERS


def fit(histories: Sequence[History], model: Model = mbg_nbd) -> Fit | None:
    """The most likely parameters; None with fewer than 200 customers or fewer than 50 that bought again.

    It computes for seconds: run it in a process of its own.
    """
    if not is_enough(histories):
        return None
    groups, unit = _grouped(histories), max(each.age for each in histories)

    def loss(point: Point) -> float:
        return -_log_likelihood(model, _parameters(point, unit), groups)

    loss_found, point = minimize(loss, _STARTS, _BOUND, _TOLERANCE)
    return Fit(_parameters(point, unit), len(histories), -loss_found)


def _grouped(histories: Iterable[History]) -> _Groups:
    groups: _Groups = defaultdict(list)
    for history, count in Counter(histories).items():
        groups[history.repeats].append((count, history.recency, history.age))
    return groups


def _parameters(point: Point, unit: float) -> Parameters:
    r, alpha, a, b = map(exp, point)
    return Parameters(r, alpha * unit, a, b)


def _log_likelihood(model: Model, parameters: Parameters, groups: _Groups) -> float:
    """The sum over all customers. Each logarithm of a time is computed once."""
    spans = {span for group in groups.values() for _, *both in group for span in both}
    logs = {span: log(parameters.alpha + span) for span in spans}
    return sum(
        count * log_density(shared, logs[recency], logs[age])
        for repeats, group in groups.items()
        for shared in (terms(model, parameters, repeats),)
        for count, recency, age in group
    )
