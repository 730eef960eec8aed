"""Commands about churn: settings, runs, and the scores of customers."""

from datetime import date
from typing import Final

from loyalpro.kernel.changes import changes_of
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound
from loyalpro.kernel.record import record
from loyalpro.loyalty.churn.entities import ChurnModel, ChurnRun, ListedScore
from loyalpro.loyalty.churn.levels import Level
from loyalpro.loyalty.churn.settings import ChurnSettings, require_ordered
from loyalpro.loyalty.expiry import date_of, day_of
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.sweeps.churn_run import CHURN

_MOST_RUNS: Final = 10


@record
class ChangeChurnSettings:
    """The settings that take the place of those of an account."""

    account_id: str
    settings: ChurnSettings


@record
class StartChurnRun:
    """A run to start as of a day; None for today. `baseline`: it emits no events."""

    account_id: str
    as_of: date | None
    baseline: bool


@record
class ChurnState:
    """Settings, and the model that a run of today would use, if it is not renewed first."""

    settings: ChurnSettings
    model: ChurnModel | None


@record
class ListScores:
    """Scores to read, in the order of the customers' ids, behind `after_id`: at this level, of this customer."""

    account_id: str
    level: Level | None
    customer_id: str | None
    after_id: str
    limit: int


def get_churn_settings(unit: LoyaltyUnit, account_id: str) -> ChurnState:
    """The settings and the model of an account."""
    return ChurnState(unit.churn.settings(account_id), unit.churn.model(account_id, _today(unit, account_id)))


def change_churn_settings(unit: LoyaltyUnit, command: ChangeChurnSettings) -> ChurnState:
    """Store settings. Raises `InvalidInput` `thresholds_not_ordered`."""
    require_ordered(command.settings.rules)
    before = unit.churn.settings(command.account_id)
    unit.churn.put_settings(command.account_id, command.settings, unit.now)
    unit.audit(command.account_id, "churn_settings.updated", command.account_id, changes_of(before, command.settings))
    unit.wake_job(CHURN)
    return get_churn_settings(unit, command.account_id)


def start_churn_run(unit: LoyaltyUnit, command: StartChurnRun) -> ChurnRun:
    """Store a run, and wake the job that works on it. The runs of an account take place one after the other.

    Raises `InvalidInput` `as_of_in_future`, and `Conflict` `too_many_churn_runs` when ten are unfinished.
    """
    today = _today(unit, command.account_id)
    if command.as_of is not None and command.as_of > today:
        raise InvalidInput(
            f"as_of is after today, which is {today} in the time zone of the program.",
            code="as_of_in_future",
            param="as_of",
        )
    if unit.churn.unfinished_runs(command.account_id) >= _MOST_RUNS:
        raise Conflict(f"{_MOST_RUNS} runs are not finished; wait until one is.", code="too_many_churn_runs")
    run = ChurnRun(
        id=unit.ids.new("job"),
        account_id=command.account_id,
        as_of=command.as_of or today,
        requested=True,
        baseline=command.baseline,
        actor=unit.actor,
        created_at=unit.now,
    )
    unit.churn.insert_run(run)
    unit.audit(command.account_id, "churn_run.started", run.id)
    unit.wake_job(CHURN)
    return run


def get_churn_run(unit: LoyaltyUnit, account_id: str, run_id: str) -> ChurnRun:
    """One run. Raises `NotFound`."""
    run = unit.churn.run(account_id, run_id)
    if run is None:
        raise NotFound(f"There is no churn run {run_id}. Runs are kept for 90 days.", param="id")
    return run


def last_churn_run(unit: LoyaltyUnit, account_id: str) -> ChurnRun | None:
    """The last run that has set levels, whose scores are those that are listed; None before the first one."""
    return unit.churn.last_run(account_id)


def list_scores(unit: LoyaltyUnit, query: ListScores) -> list[ListedScore]:
    """Scores of active customers."""
    return unit.churn.list_scores(query.account_id, query.level, query.customer_id, query.after_id, query.limit)


def _today(unit: LoyaltyUnit, account_id: str) -> date:
    return date_of(day_of(unit.now, unit.programs.get(account_id).rules.time_zone))
