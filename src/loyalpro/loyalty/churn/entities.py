"""What is stored of churn: models, runs, and the score of each customer."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Final, Literal, TypeAlias

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.churn.features import Features, program_gap_days
from loyalpro.loyalty.churn.fit import Fit
from loyalpro.loyalty.churn.levels import Announcement, Standing
from loyalpro.loyalty.churn.mbg_nbd import Parameters
from loyalpro.loyalty.churn.score import FALLBACK_NAME, MODEL_NAME, Score, gap_score, model_score
from loyalpro.loyalty.churn.settings import DAYS_OF_MODEL, ChurnSettings

ModelName: TypeAlias = Literal["mbg_nbd", "recency_gap"]


@record
class ChurnModel:
    """What scores come from. `version`: the day as of which it was made, such as `2026-11-22`.

    `parameters` None: too few customers for a fit, so scores come from gaps between purchases. `gap_days`: the typical gap of
    the account; None without a repeat customer.
    """

    account_id: str
    version: str
    parameters: Parameters | None
    gap_days: float | None
    fitted_customers: int
    log_likelihood: float | None
    created_at: UnixMs

    @property
    def name(self) -> ModelName:
        """The name that events show."""
        return FALLBACK_NAME if self.parameters is None else MODEL_NAME

    def score(self, customer: Features, horizon_days: int) -> Score | None:
        """The score of a customer; None when neither a model nor a gap is known."""
        if self.parameters is None:
            return gap_score(customer, self.gap_days)
        return model_score(customer, self.parameters, horizon_days)


def new_model(
    account_id: str, as_of: date, customers: list[Features], found: Fit | None, created_at: UnixMs
) -> ChurnModel:
    """The model of a fit; without one, that of the gaps of these customers."""
    return ChurnModel(
        account_id=account_id,
        version=as_of.isoformat(),
        parameters=found.parameters if found else None,
        gap_days=program_gap_days(customers),
        fitted_customers=found.customers if found else 0,
        log_likelihood=found.log_likelihood if found else None,
        created_at=created_at,
    )


def is_stale(model: ChurnModel | None, as_of: date) -> bool:
    """Whether a run as of a day needs another model: it is a week old, or a fit was not possible yet."""
    if model is None or model.parameters is None:
        return True
    return as_of - date.fromisoformat(model.version) >= timedelta(days=DAYS_OF_MODEL)


BUCKETS: Final = 20
"""How many parts of the scores from 0 to 1 a run counts."""

RunStatus: TypeAlias = Literal["queued", "running", "done", "failed"]


@record
class ChurnRun:
    """One scoring of all customers of an account as of a day. `requested`: by a call; else it was scheduled.

    `cursor`: the last customer that was looked at. `announcement`, `settings` and `model_version` are decided when the run
    begins, and hold for all of it; `parameters` are those of the model, for a comparison with the next run. `low`, `medium` and
    `high` count customers at each level; `events` counts what was emitted. `histogram`: how many customers have a score in each
    of `BUCKETS` equal parts from 0 to 1; None before the first customer, and for runs of old versions.
    """

    id: str
    account_id: str
    as_of: date
    requested: bool
    baseline: bool
    actor: str
    created_at: UnixMs
    status: RunStatus = "queued"
    cursor: str = ""
    settings: ChurnSettings | None = None
    announcement: Announcement | None = None
    model_version: str | None = None
    parameters: Parameters | None = None
    low: int = 0
    medium: int = 0
    high: int = 0
    events: int = 0
    histogram: tuple[int, ...] | None = None
    started_at: UnixMs | None = None
    finished_at: UnixMs | None = None

    @property
    def scored(self) -> int:
        """How many customers have a score."""
        return self.low + self.medium + self.high


def counted(histogram: tuple[int, ...] | None, scores: Iterable[float]) -> tuple[int, ...]:
    """A histogram with further scores. A score of 1 is in the last part."""
    counts = list(histogram or (0,) * BUCKETS)
    for score in scores:
        counts[min(int(score * BUCKETS), BUCKETS - 1)] += 1
    return tuple(counts)


@record
class CustomerScore:
    """The last score of a customer and its level. `score`, `p_alive` and `p_purchase` are from 0 to 1."""

    customer_id: str
    account_id: str
    score: float
    p_alive: float | None
    p_purchase: float | None
    model_version: str
    scored_at: UnixMs
    standing: Standing


@record
class ListedScore:
    """A score with the id of the customer in the merchant's system."""

    score: CustomerScore
    external_id: str | None


@record
class PurchaseDays:
    """The days of a customer with net purchases, and what was spent on them in minor units of the program's currency."""

    days: Sequence[date]
    spend: int
