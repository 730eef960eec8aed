"""`/v1/fraud`: rules that point out suspicious activity, and the cases that they open."""

from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.loyalty.fraud import backtest, resolution, rule_changes
from loyalpro.loyalty.fraud.cases import FraudCase, shown_measurement
from loyalpro.loyalty.fraud.durations import show_duration
from loyalpro.loyalty.fraud.rules import Rule, kind_of, read_cooldown, show_params
from loyalpro.web.answers import Actor, CaseId, Count, CustomerId, Page, Time, answers
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.fields import Body, Cursor, Description, Limit, SearchText, ShortText, Whole, few, known_id, page
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(prefix="/v1/fraud", tags=["fraud"], route_class=StrictRoute.needing(write="program"))


class RuleView(TypedDict):
    """A fraud rule."""

    code: str
    id: str
    version: Count
    enabled: bool
    shadow: bool
    action: str
    actions: list[str]
    severity: str
    score: int
    key_type: str
    threshold: int | float
    window: str | None
    params: dict[str, Any]
    cooldown: str


class MeasurementView(TypedDict):
    """What was measured, against what."""

    aggregate: str
    value: int | float
    threshold: int | float
    severity_ratio: int | float
    window: str | None
    key_type: str


class TriedRule(TypedDict):
    """The rule that a backtest tried."""

    code: str
    threshold: int | float
    window: str | None
    params: dict[str, Any]


class HitView(TypedDict):
    """An event that would have set the rule off."""

    at: Time
    customer_id: CustomerId
    measurement: MeasurementView
    evidence: list[str]


class BacktestView(TypedDict):
    """What a rule would have found in the past."""

    rule: TriedRule
    since: Time
    examined: Count
    complete: bool
    hits: Count
    cases: Count
    examples: list[HitView]


class RuleOfCase(TypedDict):
    """The rule of a case, in the version that opened it."""

    code: str
    version: Count


class CaseView(TypedDict):
    """A suspicion that a person resolves."""

    id: CaseId
    status: str
    rule: RuleOfCase
    customer_id: CustomerId | None
    severity: str
    score: int
    action: str
    shadow: bool
    measurement: MeasurementView
    evidence: list[str]
    hits: Count
    first_at: Time
    last_at: Time
    resolved_at: Time | None
    resolved_by: Actor | None
    note: str | None


_RULE_EXAMPLE = {
    "action": "hold",
    "threshold": 6,
    "window": "PT2H",
    "params": {"long_threshold": 10},
    "cooldown": "PT12H",
}


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class RuleBody(Body):
    """The fields to change of a rule; what is left out stays. A rule can be sent as it was read: `id` and such are ignored."""

    model_config = _examples(_RULE_EXAMPLE)

    enabled: bool | None = None
    shadow: bool | None = Field(default=None, description="Keep cases, and neither act nor send events.")
    action: Literal["flag", "hold", "block"] | None = None
    severity: Literal["low", "medium", "high"] | None = None
    score: Annotated[Whole, Field(ge=0, le=100)] | None = None
    threshold: int | float | None = None
    window: ShortText | None = Field(default=None, description="An ISO 8601 duration, such as PT1H.")
    params: Annotated[dict[str, Any], few(20)] = Field(default_factory=dict)
    cooldown: ShortText | None = Field(default=None, description="An ISO 8601 duration, such as PT24H.")
    version: Whole | None = Field(
        default=None, description="Refuses the change with 409 if the rule has another version."
    )
    id: Any = Field(default=None, description="Ignored.")
    code: Any = Field(default=None, description="Ignored.")
    key_type: Any = Field(default=None, description="Ignored.")
    actions: Any = Field(default=None, description="Ignored.")

    def change(self, code: str) -> rule_changes.RuleChange:
        """The command. Raises `InvalidInput` for a cooldown that is no duration."""
        return rule_changes.RuleChange(
            code=kind_of(code).code,
            enabled=self.enabled,
            shadow=self.shadow,
            action=self.action,
            severity=self.severity,
            score=self.score,
            cooldown=None if self.cooldown is None else read_cooldown(self.cooldown),
            threshold=self.threshold,
            window=self.window,
            params=self.params,
            version=self.version,
        )


class NamedRule(RuleBody):
    """A rule by its code, and the fields to change of it."""

    model_config = _examples({"code": "velocity.earn", **_RULE_EXAMPLE})

    code: ShortText


class RulesBody(Body):
    """The rules to change, all of them or none. The answer of `GET` can be sent as it is."""

    model_config = _examples({"rules": [{"code": "velocity.earn", "action": "hold"}]})

    rules: Annotated[list[NamedRule], Field(min_length=1, max_length=12)]
    next_cursor: None = Field(default=None, description="Ignored.")

    @model_validator(mode="before")
    @classmethod
    def _as_it_was_read(cls, given: Any) -> Any:
        """A list of rules as it was read has them in `data`."""
        if isinstance(given, dict) and "data" in given and "rules" not in given:
            return {"rules": given["data"], **{name: value for name, value in given.items() if name != "data"}}
        return given


class BacktestBody(Body):
    """Parameters to try; what is left out is as it is in force."""

    model_config = _examples({"threshold": 4, "params": {"long_threshold": 6}, "days": 30})

    threshold: int | float | None = None
    window: ShortText | None = None
    params: Annotated[dict[str, Any], few(20)] = Field(default_factory=dict)
    days: Annotated[Whole, Field(ge=1, le=backtest.MOST_DAYS)] = 30


class Resolve(Body):
    """How a case ends."""

    model_config = _examples({"resolution": "false_positive", "note": "A family of four"})

    resolution: Literal["confirmed", "false_positive"]
    note: Description | None = None
    block_earning: bool = Field(default=False, description="Later purchases of the customer earn nothing.")
    block_redeeming: bool = Field(default=False, description="Later redemptions of the customer are refused.")


Status = Annotated[Literal["open", "confirmed", "false_positive", "lapsed"] | None, Query()]


@router.get("/rules", summary="List the fraud rules")
async def list_rules(account_id: AccountId, services: ServicesDep) -> Page[RuleView]:
    """All twelve, on one page."""
    found = await services.runner.read(lambda unit: rule_changes.fraud_rules(unit, account_id))
    return _rules(found.all)


@router.put("/rules", summary="Change fraud rules")
async def update_rules(account_id: AccountId, caller: Caller, services: ServicesDep, body: RulesBody) -> Page[RuleView]:
    """Rules that are not named stay as they are. Answers all rules."""
    command = rule_changes.ChangeRules(account_id, [each.change(each.code) for each in body.rules])
    changed = await services.runner.change(lambda unit: rule_changes.change_rules(unit, command), actor=caller.actor)
    return _rules(changed)


@router.get("/rules/{code}", summary="Get a fraud rule")
async def get_rule(account_id: AccountId, services: ServicesDep, code: str) -> RuleView:
    """One rule, by its code."""
    found = await services.runner.read(lambda unit: rule_changes.fraud_rules(unit, account_id))
    return _rule(found.rule(code))


@router.put("/rules/{code}", summary="Change a fraud rule")
async def update_rule(
    account_id: AccountId, caller: Caller, services: ServicesDep, code: str, body: RuleBody
) -> RuleView:
    """A rule that differs after the change gets the next version."""
    command = rule_changes.ChangeRules(account_id, [body.change(code)])
    changed = await services.runner.change(lambda unit: rule_changes.change_rules(unit, command), actor=caller.actor)
    return _rule(changed[[each.code for each in changed].index(kind_of(code).code)])


@router.post("/rules/{code}/backtest", summary="Try a fraud rule on the past")
async def backtest_rule(account_id: AccountId, services: ServicesDep, code: str, body: BacktestBody) -> BacktestView:
    """Counts how often the rule would have fired. Changes nothing."""
    change = rule_changes.RuleChange(
        kind_of(code).code, threshold=body.threshold, window=body.window, params=body.params
    )
    command = backtest.BacktestRule(account_id, change, body.days)
    return _backtested(await services.runner.read(lambda unit: backtest.backtest_rule(unit, command)))


@router.get("/cases", summary="List fraud cases, newest first")
async def list_cases(
    account_id: AccountId,
    services: ServicesDep,
    status: Status = None,
    rule: SearchText = None,
    customer_id: SearchText = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[CaseView]:
    """One page of cases, those in shadow included."""
    before = known_id("frd", cursor, param="cursor") if cursor else None
    command = resolution.ListCases(account_id, status, rule, customer_id, before, limit + 1)
    found = await services.runner.read(lambda unit: resolution.list_cases(unit, command))
    return page([_case(each) for each in found], limit)


@router.get("/cases/{case_id}", summary="Get a fraud case")
async def get_case(account_id: AccountId, services: ServicesDep, case_id: str) -> CaseView:
    """One case, with what was measured and the ids of what it is about."""
    command = resolution.GetCase(account_id, known_id("frd", case_id))
    return _case(await services.runner.read(lambda unit: resolution.get_case(unit, command)))


@router.post("/cases/{case_id}/resolve", summary="Resolve a fraud case", responses=answers(CaseView))
async def resolve(request: Request, account_id: AccountId, case_id: str, body: Resolve) -> Response:
    """`confirmed` cancels the points that the case holds, which causes `points.adjusted`; `false_positive` releases them."""
    command = resolution.ResolveCase(
        account_id,
        known_id("frd", case_id),
        body.resolution,
        body.note,
        block_earning=body.block_earning,
        block_redeeming=body.block_redeeming,
    )

    def work(unit: Unit) -> Reply:
        return Reply(200, _case(resolution.resolve_case(unit, command)))

    return await commit(request, account_id, work)


def _rules(rules: list[Rule[Any]]) -> Page[RuleView]:
    return {"data": [_rule(each) for each in rules], "next_cursor": None}


def _rule(rule: Rule[Any]) -> RuleView:
    params = show_params(rule.params)
    return {
        "code": rule.code,
        "id": rule.id,
        "version": rule.version,
        "enabled": rule.enabled,
        "shadow": rule.shadow,
        "action": rule.action,
        "actions": list(rule.params.actions),
        "severity": rule.severity,
        "score": rule.score,
        "key_type": rule.params.key_type,
        "threshold": cast("int | float", params.pop("threshold")),
        "window": cast("str | None", params.pop("window", rule.window)),
        "params": params,
        "cooldown": show_duration(rule.cooldown),
    }


def _backtested(result: backtest.Backtested) -> BacktestView:
    rule = _rule(result.rule)
    return {
        "rule": {
            "code": rule["code"],
            "threshold": rule["threshold"],
            "window": rule["window"],
            "params": rule["params"],
        },
        "since": rfc3339(result.since),
        "examined": result.examined,
        "complete": result.is_complete,
        "hits": result.hits,
        "cases": result.cases,
        "examples": [
            {
                "at": rfc3339(each.at),
                "customer_id": each.finding.customer_id,
                "measurement": cast("MeasurementView", shown_measurement(each.finding.measurement)),
                "evidence": list(each.finding.evidence),
            }
            for each in result.examples
        ],
    }


def _case(case: FraudCase) -> CaseView:
    return {
        "id": case.id,
        "status": case.status,
        "rule": {"code": case.rule_code, "version": case.rule_version},
        "customer_id": case.customer_id,
        "severity": case.severity,
        "score": case.score,
        "action": case.action,
        "shadow": case.shadow,
        "measurement": cast("MeasurementView", case.measurement),
        "evidence": list(case.evidence),
        "hits": case.hits,
        "first_at": rfc3339(case.first_at),
        "last_at": rfc3339(case.last_at),
        "resolved_at": None if case.resolved_at is None else rfc3339(case.resolved_at),
        "resolved_by": case.resolved_by,
        "note": case.note,
    }
