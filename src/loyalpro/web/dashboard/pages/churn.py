"""Program > Churn: how the scores are spread, who is at risk and why, and which model says so."""

from datetime import UTC, date, datetime
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from loyalpro.accounts.roles import ROLES
from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.ids import is_id
from loyalpro.loyalty.churn.entities import BUCKETS, ChurnRun, CustomerScore
from loyalpro.loyalty.churn.levels import Level
from loyalpro.loyalty.churn_scoring import (
    ListScores,
    StartChurnRun,
    get_churn_settings,
    last_churn_run,
    list_scores,
    start_churn_run,
)
from loyalpro.loyalty.customer_names import customers_named
from loyalpro.web.dashboard.formats import day_text
from loyalpro.web.dashboard.forms import SentForm, blank, commit
from loyalpro.web.dashboard.links import customer_names, page_of
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.rule_words import count_of
from loyalpro.web.dashboard.visits import Visitor
from loyalpro.web.services import ServicesDep
from loyalpro.web.unit import Unit

PATH: Final = "/churn"
_PAGE: Final = 50
_TABS: Final[tuple[tuple[str, Level], ...]] = (("High", "high"), ("Medium", "medium"), ("Low", "low"))
_HEIGHT: Final = 120
"""How tall the highest bar is drawn, in units of the picture."""

router = APIRouter(route_class=PageRoute)


@router.get(PATH, name="churn")
async def show(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    level: Level = "high",
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The spread of the scores, and the customers at one level, in the order of their enrollment."""
    account_id = visitor.account_id
    known = after if after is not None and is_id("cus", after) else ""

    def look(unit: Unit) -> dict[str, Any]:
        scores = [each.score for each in list_scores(unit, ListScores(account_id, level, None, known, _PAGE + 1))]
        names = customers_named(unit, account_id, [each.customer_id for each in scores[:_PAGE]])
        return {
            "scores": scores,
            "customer_name": customer_names(visitor, names),
            "run": last_churn_run(unit, account_id),
            "state": get_churn_settings(unit, account_id),
        }

    found = await services.runner.read(look)
    run, scores = found["run"], found["scores"]
    rules = found["state"].settings.rules
    return page(
        request,
        "churn/churn.html",
        title="Churn",
        form=blank(request),
        level=level,
        tabs=[
            (text, f"{PATH}?level={each}", each == level, None if run is None else getattr(run, each))
            for text, each in _TABS
        ],
        bars=bars_of(run, rules.enter, rules.high),
        why=lambda score: why(score, found["state"].settings.horizon_days),
        day_text=day_text,
        page_of=partial(page_of, request),
        may_run="rules.change" in ROLES[visitor.member.membership.role],
        newest=f"{PATH}?level={level}" if known else None,
        older=f"{PATH}?level={level}&after={scores[_PAGE - 1].customer_id}" if len(scores) > _PAGE else None,
        **found | {"scores": scores[:_PAGE]},
    )


@router.post(f"{PATH}/run", name="churn.run")
async def run(request: Request, visitor: Visitor, form: SentForm) -> Response:
    """Score all customers now."""
    command = StartChurnRun(visitor.account_id, None, baseline=False)
    await commit(request, form, lambda unit: {"id": start_churn_run(unit, command).id})
    return redirect(request, PATH, "All customers are being scored. The page shows it when the run is over.")


def bars_of(run: ChurnRun | None, enter: float, high: float) -> list[tuple[str, int, float, str]]:
    """The bars of the picture: the scores of each, how many customers have one, how tall it is, and its color.

    Empty without a run, and for a run that has not counted each of its customers.
    """
    counts = None if run is None else run.histogram
    if run is None or counts is None or sum(counts) != run.scored or not run.scored:
        return []
    most = max(counts)
    found = []
    for place, count in enumerate(counts):
        first = place / BUCKETS
        color = "f-bad" if first >= high else "f-wait" if first >= enter else "f-ok"
        found.append((f"{first:.2f} to {first + 1 / BUCKETS:.2f}", count, round(_HEIGHT * count / most, 1), color))
    return found


def why(score: CustomerScore, horizon_days: int) -> str:
    """Why a customer has its score, in a sentence."""
    silent = (_date(score.scored_at) - score.standing.last_purchase_on).days
    text = f"No purchase for {count_of(max(silent, 0), 'day')}"
    if score.p_purchase is None or score.p_alive is None:
        return f"{text}, which is long for this customer's usual gap."
    chances = f"A purchase within {horizon_days} days: {_percent(score.p_purchase)}."
    return f"{text}. {chances} Still a customer: {_percent(score.p_alive)}."


def _percent(share: float) -> str:
    return "less than 1 %" if 0 < share < 0.01 else f"{share * 100:.0f} %"


def _date(at: UnixMs) -> date:
    return datetime.fromtimestamp(at // MS_PER_S, UTC).date()
