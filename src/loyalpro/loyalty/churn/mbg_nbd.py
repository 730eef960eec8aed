"""The MBG/NBD model of repeat purchases, and beside it BG/NBD, whose published numbers check the arithmetic.

A customer buys at random with a rate of its own, and may leave for good after each purchase: after the first as well in
MBG/NBD, after a repeat only in BG/NBD. Rates follow a gamma distribution (r, alpha), and chances to leave follow a beta
distribution (a, b).

The two differ only in how often a customer could have left: the `Model`. Everything is computed in logarithms, so that
neither 1,000 purchases nor 1,000 weeks overflow.

MBG/NBD: Batislam, Denizel and Filiztekin 2007. BG/NBD: Fader, Hardie and Lee 2005.
"""

from collections.abc import Callable
from math import exp, expm1, inf, lgamma, log, log1p
from typing import Final, TypeAlias

from loyalpro.kernel.record import record
from loyalpro.loyalty.churn.features import History

_LARGEST_EXPONENT: Final = 700.0
"""`exp` of more than 709 overflows."""


@record
class Parameters:
    """The four parameters, all above 0. `alpha` is in the unit of time of the histories."""

    r: float
    alpha: float
    a: float
    b: float


Model: TypeAlias = Callable[[int], int]
"""After how many purchases a customer with so many repeats could have left."""


def mbg_nbd(repeats: int) -> int:
    """A customer may leave after every purchase."""
    return repeats + 1


def bg_nbd(repeats: int) -> int:
    """A customer may leave after every purchase but the first."""
    return repeats


@record
class Terms:
    """What a likelihood takes from the parameters and the number of repeats.

    `weight`: r + repeats. `scale`: the logarithm of the factor in front. `log_odds_left`: the odds that the last purchase was
    followed by leaving, before any silence is seen.
    """

    weight: float
    scale: float
    log_odds_left: float


def terms(model: Model, parameters: Parameters, repeats: int) -> Terms:
    """The terms of all customers with so many repeats."""
    r, a, b, stays = parameters.r, parameters.a, parameters.b, model(repeats)
    return Terms(
        weight=r + repeats,
        scale=(
            lgamma(r + repeats)
            - lgamma(r)
            + r * log(parameters.alpha)
            + lgamma(a + b)
            + lgamma(b + stays)
            - lgamma(b)
            - lgamma(a + b + stays)
        ),
        log_odds_left=_log_odds_left(model, parameters, repeats),
    )


def log_likelihood(model: Model, parameters: Parameters, history: History) -> float:
    """The logarithm of the density of one customer's purchases."""
    alpha = parameters.alpha
    found = terms(model, parameters, history.repeats)
    return log_density(found, log(alpha + history.recency), log(alpha + history.age))


def log_density(found: Terms, log_recency: float, log_age: float) -> float:
    """`log_likelihood` from its terms and the logarithms of alpha + recency and alpha + age."""
    stayed = -found.weight * log_age
    left = found.log_odds_left - found.weight * log_recency
    if stayed < left:
        stayed, left = left, stayed
    return found.scale + stayed + log1p(exp(left - stayed))


def p_alive(model: Model, parameters: Parameters, history: History) -> float:
    """The probability that the customer has not left."""
    silence = (history.age - history.recency) / (parameters.alpha + history.recency)
    weight = parameters.r + history.repeats
    log_odds = _log_odds_left(model, parameters, history.repeats) + weight * log1p(silence)
    return 1.0 / (1.0 + exp(min(log_odds, _LARGEST_EXPONENT)))


def p_buy(model: Model, parameters: Parameters, history: History, horizon: float) -> float:
    """The probability of at least one purchase within the next `horizon`, in the unit of time of the history."""
    return outlook(model, parameters, history, horizon).p_buy


def lost_chance(model: Model, parameters: Parameters, history: History, horizon: float) -> float:
    """How much is gone of the chance to buy within `horizon` that stood right after the last purchase, from 0 to 1.

    It is 0 on the day of a purchase, and rises only while the customer is silent.
    """
    return outlook(model, parameters, history, horizon).lost_chance


@record
class Outlook:
    """What is known of a customer's next purchase: `p_alive`, `p_buy` and `lost_chance`, computed together."""

    p_alive: float
    p_buy: float
    lost_chance: float


def outlook(model: Model, parameters: Parameters, history: History, horizon: float) -> Outlook:
    """The three numbers of a customer. Together they take a third of the time."""
    alpha, weight = parameters.alpha, parameters.r + history.repeats
    fresh_log_odds = _log_odds_left(model, parameters, history.repeats)
    fresh = _chance(fresh_log_odds, weight, alpha + history.recency, horizon)[1]
    log_odds = fresh_log_odds + weight * log1p((history.age - history.recency) / (alpha + history.recency))
    alive, left = _chance(log_odds, weight, alpha + history.age, horizon)
    return Outlook(alive, left, max(0.0, 1.0 - left / fresh))  # rounding may make the quotient exceed 1


def _chance(log_odds_left: float, weight: float, time: float, horizon: float) -> tuple[float, float]:
    """The probabilities that the customer has not left, and that it buys within `horizon`. `time`: alpha + age."""
    alive = 1.0 / (1.0 + exp(min(log_odds_left, _LARGEST_EXPONENT)))
    return alive, alive * -expm1(weight * log1p(-horizon / (time + horizon)))


def _log_odds_left(model: Model, parameters: Parameters, repeats: int) -> float:
    stays = model(repeats)
    return log(parameters.a) - log(parameters.b + stays - 1) if stays else -inf
