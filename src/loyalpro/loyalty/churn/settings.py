"""How an account has its customers scored."""

from typing import Final

from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record
from loyalpro.loyalty.churn.levels import LevelRules
from loyalpro.loyalty.churn.score import HORIZON_DAYS

DAYS_OF_MODEL: Final = 7
"""After how many days a fitted model is fitted anew."""


@record
class ChurnSettings:
    """`enabled`: a run is scheduled every day. `horizon_days`: within how many days a purchase is predicted."""

    enabled: bool = True
    horizon_days: int = HORIZON_DAYS
    rules: LevelRules = LevelRules()


def require_ordered(rules: LevelRules) -> None:
    """Raise `InvalidInput` `thresholds_not_ordered` unless exit < enter <= high."""
    if not rules.exit < rules.enter <= rules.high:
        raise InvalidInput(
            "exit must be below enter, and enter at most high.", code="thresholds_not_ordered", param="thresholds"
        )
