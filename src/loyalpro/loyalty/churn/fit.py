"""Finds the parameters of a model that make the purchases of an account's customers most likely."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from math import exp, log, log1p
from operator import itemgetter, mul
from typing import Final

from loyalpro.kernel.record import record
from loyalpro.loyalty.churn.features import Features, History
from loyalpro.loyalty.churn.mbg_nbd import Model, Parameters, Terms, mbg_nbd, terms
from loyalpro.loyalty.churn.nelder_mead import Function, Point, minimize, search

MOST_CUSTOMERS: Final = 20_000
LEAST_CUSTOMERS: Final = 200
LEAST_REPEAT_CUSTOMERS: Final = 50
_BOUND: Final = 12.0
"""Logarithms of parameters stay within +- this; that of `alpha` with the highest age as the unit of time."""
_TOLERANCE: Final = 1e-8
_STARTS: Final[tuple[Point, ...]] = ((0.0, 0.0, 0.0, 0.0), (-1.0, -2.0, -1.0, 1.0))

_COARSE_TOLERANCE: Final = 1e-3
_FEW: Final = 2_500
"""Where there are more than twice as many different histories, so many customers find where the search among all begins."""
_FINE_STEP: Final = 0.05


_LARGEST_EXPONENT: Final = 600.0
"""`exp` of more than 709 overflows."""


@record
class _Group:
    """The customers with so many repeats. `ages`: how many of them have each.

    `pairs`: those of which there are so many with one recency and one age, as two lists of positions in `recencies` and `ages`.
    """

    repeats: int
    customers: int
    ages: Mapping[float, int]
    recencies: Sequence[float]
    pairs: Mapping[int, tuple[list[int], list[int]]]


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
    unit = max(each.age for each in histories)
    distinct = Counter(histories)
    if len(distinct) <= 2 * _FEW:
        found, point = minimize(_loss(model, distinct, unit), _STARTS, _BOUND, _TOLERANCE)
    else:
        few = Counter(sorted(histories, key=_values)[:: len(histories) // _FEW])
        _, near = minimize(_loss(model, few, unit), _STARTS, _BOUND, _COARSE_TOLERANCE)
        found, point = search(_loss(model, distinct, unit), near, _BOUND, _TOLERANCE, _FINE_STEP)
    return Fit(_parameters(point, unit), len(histories), -found)


def _loss(model: Model, histories: Mapping[History, int], unit: float) -> Function:
    groups = _grouped(histories)
    return lambda point: -_log_likelihood(model, _parameters(point, unit), groups)


def _grouped(histories: Mapping[History, int]) -> list[_Group]:
    by_repeats: dict[int, list[tuple[History, int]]] = defaultdict(list)
    for history, count in histories.items():
        by_repeats[history.repeats].append((history, count))
    return [_group(repeats, members) for repeats, members in by_repeats.items()]


def _group(repeats: int, members: Sequence[tuple[History, int]]) -> _Group:
    ages: Counter[float] = Counter()
    pairs: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for history, count in members:
        ages[history.age] += count
    age_places = {age: place for place, age in enumerate(ages)}
    recency_places = {each: place for place, each in enumerate({history.recency for history, _ in members})}
    for history, count in members:
        pairs[count][0].append(recency_places[history.recency])
        pairs[count][1].append(age_places[history.age])
    return _Group(repeats, ages.total(), ages, list(recency_places), pairs)


def _parameters(point: Point, unit: float) -> Parameters:
    r, alpha, a, b = map(exp, point)
    return Parameters(r, alpha * unit, a, b)


def _log_likelihood(model: Model, parameters: Parameters, groups: Sequence[_Group]) -> float:
    """The sum of `log_density` over all customers."""
    spans = {span for group in groups for both in (group.ages, group.recencies) for span in both}
    logs = {span: log(parameters.alpha + span) for span in spans}
    return sum(_of_group(terms(model, parameters, group.repeats), logs, group) for group in groups)


def _of_group(shared: Terms, logs: Mapping[float, float], group: _Group) -> float:
    """The sum over a group: what its customers share, and the logarithm of 1 + the odds to have left of each.

    The odds are a power of (alpha + age) / (alpha + recency). Each power of an age and of a recency is computed once.
    """
    weight, odds = shared.weight, shared.log_odds_left
    ages, recencies = [logs[each] for each in group.ages], [logs[each] for each in group.recencies]
    total: float = group.customers * shared.scale - weight * sum(map(mul, group.ages.values(), ages))
    top = max(ages)
    if odds + weight * (top - min(recencies)) > _LARGEST_EXPONENT:
        return total + sum(
            count * _softplus(odds + weight * (ages[age] - recencies[recency]))
            for count, places in group.pairs.items()
            for recency, age in zip(*places, strict=True)
        )
    of_ages = [exp(weight * (each - top)) for each in ages]
    of_recencies = [exp(odds + weight * (top - each)) for each in recencies]
    for count, (recency_places, age_places) in group.pairs.items():
        chances = map(mul, map(of_recencies.__getitem__, recency_places), map(of_ages.__getitem__, age_places))
        total += count * sum(map(log1p, chances))
    return total


def _softplus(value: float) -> float:
    """The logarithm of 1 + exp(value), without overflow."""
    return max(value, 0.0) + log1p(exp(-abs(value)))


def _values(history: History) -> tuple[int, float, float]:
    return history.repeats, history.recency, history.age
