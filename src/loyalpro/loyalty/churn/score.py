"""The churn score of a customer: by the fitted model, or by its typical gap where there are too few customers to fit one."""

from typing import Final

from loyalpro.kernel.record import record
from loyalpro.loyalty.churn.features import Features
from loyalpro.loyalty.churn.mbg_nbd import Parameters, mbg_nbd, outlook

HORIZON_DAYS: Final = 90
MODEL_NAME: Final = "mbg_nbd"
FALLBACK_NAME: Final = "recency_gap"
_GAPS_OF_HALF: Final = 2
"""A customer that is silent for this many typical gaps has a score of one half."""


@record
class Score:
    """`value`, from 0 to 1, rises only while the customer is silent. The probabilities are None in the fallback.

    `typical_gap_days`: the customer's own; in the fallback, the one that the score comes from.
    """

    value: float
    p_alive: float | None
    p_purchase: float | None
    typical_gap_days: float | None


def model_score(customer: Features, parameters: Parameters, horizon_days: int = HORIZON_DAYS) -> Score:
    """The score by MBG/NBD, with `alpha` in days: how much is gone of the chance of a purchase within the horizon."""
    found = outlook(mbg_nbd, parameters, customer.history, horizon_days)
    return Score(found.lost_chance, found.p_alive, found.p_buy, customer.typical_gap_days)


def gap_score(customer: Features, program_gap_days: float | None) -> Score | None:
    """The score q / (q + 2), with q the days of silence per typical gap: the customer's own, else that of the program.

    None where neither is known.
    """
    gap_days = program_gap_days if customer.typical_gap_days is None else customer.typical_gap_days
    if gap_days is None:
        return None
    silence_days = customer.days_since_last_purchase
    # Not by way of q: one division is exact at the thresholds, where two are not.
    return Score(silence_days / (silence_days + _GAPS_OF_HALF * gap_days), None, None, gap_days)
