"""`/v1/churn`: which customers are at risk of leaving."""

import re
from datetime import date
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.loyalty import churn_scoring
from loyalpro.loyalty.churn.entities import ChurnModel, ChurnRun, ListedScore
from loyalpro.loyalty.churn.levels import LevelRules
from loyalpro.loyalty.churn.settings import ChurnSettings
from loyalpro.loyalty.sweeps.churn_run import rounded
from loyalpro.web.answers import Count, CustomerId, Date, ExternalId, JobId, Page, Time, answers
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.fields import Body, Cursor, Limit, Whole, known_id
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(prefix="/v1/churn", tags=["churn"], route_class=StrictRoute.needing(write="program"))


class ThresholdsView(TypedDict):
    """The scores at which levels begin and end."""

    enter: float
    high: float
    exit: float


class ParametersView(TypedDict):
    """What the model was fitted to."""

    r: float
    alpha: float
    a: float
    b: float


class ModelView(TypedDict):
    """The model that scores."""

    name: str
    version: str
    fitted_customers: Count
    fallback: bool
    parameters: ParametersView | None
    typical_gap_days: float | None


class SettingsView(TypedDict):
    """The settings of churn scoring, and its model."""

    enabled: bool
    horizon_days: int
    thresholds: ThresholdsView
    cooldown_days: int
    min_age_days: int
    min_silence_days: int
    model: ModelView | None


class LevelsView(TypedDict):
    """How many customers have each level."""

    low: Count
    medium: Count
    high: Count


class RunView(TypedDict):
    """A run and its progress."""

    id: JobId
    status: str
    as_of: Date
    requested: bool
    baseline: bool
    mode: str | None
    model_version: str | None
    scored: Count
    levels: LevelsView
    events: Count
    created_at: Time
    started_at: Time | None
    finished_at: Time | None


class ScoreView(TypedDict):
    """The score of a customer."""

    customer_id: CustomerId
    customer_external_id: ExternalId | None
    level: str
    level_since: Date
    score: float
    p_alive: float | None
    p_purchase_horizon: float | None
    last_purchase_on: Date
    model_version: str
    scored_at: Time


_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DEFAULTS: Final = ChurnSettings()
_RULES: Final = _DEFAULTS.rules


def _day(value: Any) -> date:
    try:
        if isinstance(value, str) and _DATE.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise PydanticCustomError("time", "{detail}", {"detail": "Send a date, such as 2026-11-28"})


Day = Annotated[date, BeforeValidator(_day), Field(json_schema_extra={"type": "string", "format": "date"})]
Share = Annotated[float, Field(ge=0, le=1)]


class Thresholds(Body):
    """The scores at which the levels medium (`enter`) and high begin, and at which a customer is low again (`exit`)."""

    enter: Share = _RULES.enter
    high: Share = _RULES.high
    exit: Share = _RULES.exit


class Settings(Body):
    """How customers are scored. What is left out gets its default."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"horizon_days": 60, "thresholds": {"enter": 0.6, "high": 0.8, "exit": 0.4}}]}
    )

    enabled: Annotated[bool, Field(description="Whether a run is scheduled every day.")] = _DEFAULTS.enabled
    horizon_days: Annotated[
        Whole, Field(ge=1, le=3_650, description="Within how many days a purchase is predicted.")
    ] = _DEFAULTS.horizon_days
    thresholds: Thresholds = Thresholds()
    cooldown_days: Annotated[
        Whole, Field(ge=0, le=3_650, description="No second event of a level within so many days.")
    ] = _RULES.cooldown_days
    min_age_days: Annotated[
        Whole, Field(ge=0, le=3_650, description="A customer does not rise earlier after its first purchase.")
    ] = _RULES.least_age_days
    min_silence_days: Annotated[
        Whole, Field(ge=0, le=3_650, description="A customer does not rise earlier after its last purchase.")
    ] = _RULES.least_silence_days


class StartRun(Body):
    """A run to start."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"as_of": "2026-11-28", "baseline": True}]})

    as_of: Annotated[Day | None, Field(description="A day in the time zone of the program; today if left out.")] = None
    baseline: Annotated[bool, Field(description="Whether to set levels without sending events.")] = False


@router.get("/settings", summary="Get the settings of churn scoring")
async def get_settings(account_id: AccountId, services: ServicesDep) -> SettingsView:
    """The settings, and the model that scores come from."""
    return _settings_view(await services.runner.read(lambda unit: churn_scoring.get_churn_settings(unit, account_id)))


@router.put("/settings", summary="Set the settings of churn scoring")
async def put_settings(account_id: AccountId, caller: Caller, services: ServicesDep, body: Settings) -> SettingsView:
    """All settings are replaced. Levels change with the next run."""
    shares = body.thresholds
    rules = LevelRules(
        shares.enter, shares.high, shares.exit, body.cooldown_days, body.min_age_days, body.min_silence_days
    )
    command = churn_scoring.ChangeChurnSettings(
        account_id, ChurnSettings(enabled=body.enabled, horizon_days=body.horizon_days, rules=rules)
    )
    changed = await services.runner.change(
        lambda unit: churn_scoring.change_churn_settings(unit, command), actor=caller.actor
    )
    return _settings_view(changed)


@router.post("/runs", status_code=202, summary="Score all customers now", responses=answers(RunView, 202))
async def start_run(request: Request, account_id: AccountId, body: StartRun | None = None) -> Response:
    """The response is a job; read it to follow it. It sends `churn.risk` for each customer whose level rises."""
    wanted = body or StartRun()
    command = churn_scoring.StartChurnRun(account_id, wanted.as_of, wanted.baseline)
    return await commit(
        request, account_id, lambda unit: Reply(202, run_view(churn_scoring.start_churn_run(unit, command)))
    )


@router.get("/runs/{run_id}", summary="Get a run and its progress")
async def get_run(account_id: AccountId, services: ServicesDep, run_id: str) -> RunView:
    """One run."""
    id_ = known_id("job", run_id)
    return run_view(await services.runner.read(lambda unit: churn_scoring.get_churn_run(unit, account_id, id_)))


@router.get("/scores", summary="List the scores of customers")
async def list_scores(
    account_id: AccountId,
    services: ServicesDep,
    level: Literal["low", "medium", "high"] | None = None,
    customer_id: str | None = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[ScoreView]:
    """One page, in the order in which customers were enrolled. A score is of the last run that set levels."""
    query = churn_scoring.ListScores(
        account_id,
        level,
        customer_id and known_id("cus", customer_id, param="customer_id"),
        known_id("cus", cursor, param="cursor") if cursor else "",
        limit + 1,
    )
    found = await services.runner.read(lambda unit: churn_scoring.list_scores(unit, query))
    shown = [_score_view(each) for each in found[:limit]]
    return {"data": shown, "next_cursor": shown[-1]["customer_id"] if len(found) > limit else None}


def _settings_view(state: churn_scoring.ChurnState) -> SettingsView:
    settings, rules = state.settings, state.settings.rules
    return {
        "enabled": settings.enabled,
        "horizon_days": settings.horizon_days,
        "thresholds": {"enter": rules.enter, "high": rules.high, "exit": rules.exit},
        "cooldown_days": rules.cooldown_days,
        "min_age_days": rules.least_age_days,
        "min_silence_days": rules.least_silence_days,
        "model": None if state.model is None else _model_view(state.model),
    }


def _model_view(model: ChurnModel) -> ModelView:
    fitted = model.parameters
    return {
        "name": model.name,
        "version": model.version,
        "fitted_customers": model.fitted_customers,
        "fallback": fitted is None,
        "parameters": None if fitted is None else {"r": fitted.r, "alpha": fitted.alpha, "a": fitted.a, "b": fitted.b},
        "typical_gap_days": model.gap_days,
    }


def run_view(run: ChurnRun) -> RunView:
    """A run as the API shows it."""
    return {
        "id": run.id,
        "status": run.status,
        "as_of": run.as_of.isoformat(),
        "requested": run.requested,
        "baseline": run.baseline,
        "mode": run.announcement,
        "model_version": run.model_version,
        "scored": run.scored,
        "levels": {"low": run.low, "medium": run.medium, "high": run.high},
        "events": run.events,
        "created_at": rfc3339(run.created_at),
        "started_at": None if run.started_at is None else rfc3339(run.started_at),
        "finished_at": None if run.finished_at is None else rfc3339(run.finished_at),
    }


def _score_view(listed: ListedScore) -> ScoreView:
    score, standing = listed.score, listed.score.standing
    return {
        "customer_id": score.customer_id,
        "customer_external_id": listed.external_id,
        "level": standing.level,
        "level_since": standing.since.isoformat(),
        "score": rounded(score.score),
        "p_alive": None if score.p_alive is None else rounded(score.p_alive),
        "p_purchase_horizon": None if score.p_purchase is None else rounded(score.p_purchase),
        "last_purchase_on": standing.last_purchase_on.isoformat(),
        "model_version": score.model_version,
        "scored_at": rfc3339(score.scored_at),
    }
