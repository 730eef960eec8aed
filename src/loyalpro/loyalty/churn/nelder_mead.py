"""The Nelder-Mead method: finds a minimum of a function of a few numbers without its derivatives."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

Point: TypeAlias = tuple[float, ...]
Function: TypeAlias = Callable[[Point], float]
_Vertex: TypeAlias = tuple[float, Point]

_FIRST_STEP: Final = 0.5
_MOST_STEPS: Final = 1_000
_MOST_RESTARTS: Final = 5


def minimize(function: Function, starts: Iterable[Point], bound: float, tolerance: float) -> tuple[float, Point]:
    """The smallest value found and its point, with every coordinate within +- `bound`.

    The best of the searches from all starts is continued with a new simplex for as long as that gains more than `tolerance`,
    because a simplex that has become flat at a bound does not leave it again.
    """
    best = min(search(function, start, bound, tolerance) for start in starts)
    for _ in range(_MOST_RESTARTS):
        before, best = best, min(best, search(function, best[1], bound, tolerance))
        if before[0] - best[0] <= tolerance:
            break
    return best


def search(
    function: Function, start: Point, bound: float, tolerance: float, first_step: float = _FIRST_STEP
) -> tuple[float, Point]:
    """The smallest value found from one start, and its point. `first_step`: the edges of the first simplex.

    A search ends when neither the values nor the coordinates of its simplex differ by more than `tolerance`, or after 1,000
    steps.
    """
    corners = [start, *(_shifted(start, axis, first_step) for axis in range(len(start)))]
    simplex = sorted((function(corner), corner) for corner in corners)
    for _ in range(_MOST_STEPS):
        if _spread(simplex) <= tolerance:
            break
        simplex = sorted(_step(function, simplex, bound))
    return simplex[0]


def _shifted(point: Point, axis: int, first_step: float) -> Point:
    """The point moved along one axis, towards 0 so that it stays within the bounds."""
    step = -first_step if point[axis] > 0 else first_step
    return (*point[:axis], point[axis] + step, *point[axis + 1 :])


def _spread(simplex: Sequence[_Vertex]) -> float:
    rows = [(value, *point) for value, point in simplex]
    return max(max(row[i] for row in rows) - min(row[i] for row in rows) for i in range(len(rows[0])))


def _step(function: Function, simplex: Sequence[_Vertex], bound: float) -> list[_Vertex]:
    """The simplex with its worst vertex replaced, or shrunk around its best; not in order."""
    *others, worst = simplex
    center = [sum(column) / len(others) for column in zip(*(point for _, point in others), strict=True)]

    def at(factor: float) -> _Vertex:
        """The point `factor` of the way from the center to the worst vertex."""
        moved = (mid + factor * (old - mid) for mid, old in zip(center, worst[1], strict=True))
        point = tuple(min(max(each, -bound), bound) for each in moved)
        return function(point), point

    reflected = at(-1.0)
    if reflected < others[0]:
        return [*others, min(reflected, at(-2.0))]
    if reflected < others[-1]:
        return [*others, reflected]
    contracted = min(reflected, at(-0.5)) if reflected < worst else at(0.5)
    if contracted < min(reflected, worst):
        return [*others, contracted]
    return _shrunk(function, simplex)


def _shrunk(function: Function, simplex: Sequence[_Vertex]) -> list[_Vertex]:
    best = simplex[0][1]
    halves = [tuple((old + near) / 2 for old, near in zip(point, best, strict=True)) for _, point in simplex[1:]]
    return [simplex[0], *((function(point), point) for point in halves)]
