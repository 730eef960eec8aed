"""Program > Fraud cases: the queue, one case with its evidence, and the rules with a trial on the past."""

from functools import partial
from typing import Annotated, Any, Final, Literal, cast, get_args

from fastapi import APIRouter, Path, Query, Request, Response

from loyalpro.accounts.roles import ROLES
from loyalpro.kernel.errors import InvalidInput, NotFound, Refused
from loyalpro.kernel.ids import is_id
from loyalpro.loyalty.customer_names import customers_named
from loyalpro.loyalty.customers import GetCustomer, UpdateCustomer, get_customer, update_customer
from loyalpro.loyalty.fraud.backtest import BacktestRule, backtest_rule
from loyalpro.loyalty.fraud.cases import CaseStatus, FraudCase, shown_measurement
from loyalpro.loyalty.fraud.durations import show_duration
from loyalpro.loyalty.fraud.evidence import Evidence, evidence_of
from loyalpro.loyalty.fraud.resolution import GetCase, ListCases, ResolveCase, get_case, list_cases, resolve_case
from loyalpro.loyalty.fraud.rule_changes import ChangeRules, RuleChange, change_rules, fraud_rules
from loyalpro.loyalty.fraud.rules import Action, Rule, Severity, kind_of, read_cooldown, show_params
from loyalpro.loyalty.program_changes import GetProgram, get_program
from loyalpro.web.dashboard import fraud_words
from loyalpro.web.dashboard.actors import names_of
from loyalpro.web.dashboard.amounts import read_whole
from loyalpro.web.dashboard.forms import Form, SentForm, blank, commit, refused
from loyalpro.web.dashboard.links import customer_names, page_of
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.rule_words import count_of
from loyalpro.web.dashboard.toasts import Toast
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.errors import status_of
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit

PATH: Final = "/fraud"
_ONE: Final = f"{PATH}/cases/{{case_id}}"
_RULES: Final = f"{PATH}/rules"
_RULE: Final = f"{_RULES}/{{code}}"
_PAGE: Final = 50
_DAYS: Final = 30
_LONGEST_NOTE: Final = 255
_LANE: Final = 600
"""How wide the time line is drawn, in units of its picture."""
_TABS: Final[tuple[tuple[str, CaseStatus | None], ...]] = (
    ("Open", "open"),
    ("Accepted", "confirmed"),
    ("Dismissed", "false_positive"),
    ("Lapsed", "lapsed"),
    ("All", None),
)

CaseId = Annotated[str, Path(max_length=64)]
Code = Annotated[str, Path(max_length=64)]
Status = Annotated[Literal["open", "confirmed", "false_positive", "lapsed", "all"], Query()]

router = APIRouter(route_class=PageRoute)


# -- cases -----------------------------------------------------------------------------------------------------------------


@router.get(PATH, name="fraud")
async def show(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    status: Status = "open",
    rule: Annotated[str, Query(max_length=64)] = "",
    before: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The queue: cases with one status, newest first."""
    account_id = visitor.account_id
    known = before if before is not None and is_id("frd", before) else None
    code = rule if rule in fraud_words.TITLES else None
    wanted = None if status == "all" else status

    def look(unit: Unit) -> dict[str, Any]:
        cases = list_cases(unit, ListCases(account_id, wanted, code, None, known, _PAGE + 1))
        found = customers_named(unit, account_id, [each.customer_id for each in cases[:_PAGE]])
        currency = get_program(unit, GetProgram(account_id)).rules.currency
        return {"cases": cases, "currency": currency, "customer_name": customer_names(visitor, found)}

    found = await services.runner.read(look)
    cases = found["cases"]
    filters = f"status={status}" + (f"&rule={code}" if code else "")
    return page(
        request,
        "fraud/fraud.html",
        title="Fraud cases",
        words=fraud_words,
        shown_status=status,
        rule=code or "",
        tabs=[
            (
                text,
                f"{PATH}?status={each or 'all'}" + (f"&rule={code}" if code else ""),
                (each or "all") == status,
                None,
            )
            for text, each in _TABS
        ],
        newest=f"{PATH}?{filters}" if known else None,
        older=f"{PATH}?{filters}&before={cases[_PAGE - 1].id}" if len(cases) > _PAGE else None,
        **found | {"cases": cases[:_PAGE]},
    )


@router.get(_ONE, name="fraud.case")
async def show_case(request: Request, visitor: Visitor, services: ServicesDep, case_id: CaseId) -> Response:
    """One case: what was measured, the evidence on a time line, and how it can end."""
    return _case_page(request, await _look(request, visitor, services, case_id), blank(request))


@router.post(f"{_ONE}/accept", name="fraud.accept")
async def accept(
    request: Request, visitor: Visitor, services: ServicesDep, case_id: CaseId, form: SentForm
) -> Response:
    """Close a case as confirmed: the points that it holds are canceled, and its customer may be blocked."""
    command = ResolveCase(
        visitor.account_id,
        case_id,
        "confirmed",
        _note(form),
        block_earning=form.checked("block_earning"),
        block_redeeming=form.checked("block_redeeming"),
    )
    return await _resolved(request, visitor, services, command, form, "The case is accepted.")


@router.post(f"{_ONE}/dismiss", name="fraud.dismiss")
async def dismiss(
    request: Request, visitor: Visitor, services: ServicesDep, case_id: CaseId, form: SentForm
) -> Response:
    """Close a case as a false alarm: the points that it holds are released."""
    command = ResolveCase(visitor.account_id, case_id, "false_positive", _note(form))
    return await _resolved(request, visitor, services, command, form, "The case is dismissed.")


@router.post(f"{_ONE}/hold", name="fraud.hold")
async def hold(request: Request, visitor: Visitor, services: ServicesDep, case_id: CaseId) -> Response:
    """Hold the points of the customer of a case: none can be redeemed until they are released."""
    await _block(visitor, services, case_id, is_held=True)
    path = f"{PATH}/cases/{case_id}"
    return redirect(request, path, Toast("The points are held: the customer cannot redeem.", f"{path}/release"))


@router.post(f"{_ONE}/release", name="fraud.release")
async def release(request: Request, visitor: Visitor, services: ServicesDep, case_id: CaseId) -> Response:
    """Let the customer of a case redeem again."""
    await _block(visitor, services, case_id, is_held=False)
    return redirect(request, f"{PATH}/cases/{case_id}", "The points are released: the customer can redeem.")


async def _block(visitor: Visit, services: Services, case_id: str, *, is_held: bool) -> None:
    def work(unit: Unit) -> None:
        case = get_case(unit, GetCase(visitor.account_id, case_id))
        if case.customer_id is None:
            raise NotFound("The case has no customer.")
        changes = {"redeeming_blocked": is_held}
        update_customer(unit, UpdateCustomer(visitor.account_id, case.customer_id, changes))

    await services.runner.change(work, actor=visitor.actor)


async def _resolved(
    request: Request, visitor: Visit, services: Services, command: ResolveCase, form: Form, done: str
) -> Response:
    try:
        if command.note is None:
            raise InvalidInput("Write down why, for whoever asks later.", code="missing_field", param="note")
        await commit(request, form, lambda unit: {"id": resolve_case(unit, command).id})
    except NotFound:
        raise
    except Refused as error:
        found = await _look(request, visitor, services, command.case_id)
        return _case_page(request, found, refused(request, form, error, "note"), status_of(error))
    return redirect(request, PATH, done)


def _note(form: Form) -> str | None:
    return form.text("note")[:_LONGEST_NOTE] or None


async def _look(request: Request, visitor: Visit, services: Services, case_id: str) -> dict[str, Any]:
    account_id = visitor.account_id

    def look(unit: Unit) -> dict[str, Any]:
        case = get_case(unit, GetCase(account_id, case_id))
        evidence = evidence_of(unit, case)
        found = customers_named(unit, account_id, [case.customer_id, *(each.customer_id for each in evidence)])
        customer = None if case.customer_id is None else get_customer(unit, GetCustomer(account_id, case.customer_id))
        return {
            "case": case,
            "evidence": evidence,
            "customer": customer,
            "currency": get_program(unit, GetProgram(account_id)).rules.currency,
            "customer_name": customer_names(visitor, found),
            "names": names_of(unit, account_id, [case.resolved_by] if case.resolved_by else []),
            "may_change": "fraud.change" in ROLES[visitor.member.membership.role],
            "page_of": partial(page_of, request),
        }

    return await services.runner.read(look)


def _case_page(request: Request, found: dict[str, Any], form: Form, status: int = 200) -> Response:
    case: FraudCase = found["case"]
    title = fraud_words.TITLES[case.rule_code]
    return page(
        request,
        "fraud/case.html",
        title=title,
        status=status,
        words=fraud_words,
        form=form,
        dots=_dots(case, found["evidence"]),
        **found,
    )


def _dots(case: FraudCase, evidence: list[Evidence]) -> list[tuple[float, str]]:
    """Where on the time line each piece of evidence stands, and which kind it is. The line ends with the last hit."""
    if not evidence:
        return []
    first, last = evidence[0].at, max(evidence[-1].at, case.last_at)
    length = max(last - first, 1)
    return [(round(_LANE * (each.at - first) / length, 1), each.kind) for each in evidence]


# -- rules -----------------------------------------------------------------------------------------------------------------


@router.get(_RULES, name="fraud.rules")
async def show_rules(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """The twelve rules: what each points out, and what it does then."""
    found = await services.runner.read(lambda unit: fraud_rules(unit, visitor.account_id))
    may_change = "rules.change" in ROLES[visitor.member.membership.role]
    return page(
        request, "fraud/rules.html", title="Fraud rules", rules=found.all, words=fraud_words, may_change=may_change
    )


@router.get(_RULE, name="fraud.rule")
async def show_rule(request: Request, visitor: Visitor, services: ServicesDep, code: Code) -> Response:
    """The form of one rule."""
    rule = await _rule(visitor, services, code)
    return _rule_page(request, rule, _rule_form(request, rule))


@router.post(_RULE, name="fraud.change_rule")
async def save_rule(request: Request, visitor: Visitor, services: ServicesDep, code: Code, form: SentForm) -> Response:
    """Change a rule."""
    rule = await _rule(visitor, services, code)
    try:
        command = ChangeRules(visitor.account_id, [_rule_change(rule, form)])
        await commit(request, form, lambda unit: {"changed": len(change_rules(unit, command))})
    except Refused as error:
        return _rule_refused(request, rule, form, error)
    return redirect(request, _RULES, f"The rule is saved: {fraud_words.TITLES[rule.code]}.")


@router.post(f"{_RULE}/try", name="fraud.try_rule")
async def try_rule(request: Request, visitor: Visitor, services: ServicesDep, code: Code, form: SentForm) -> Response:
    """What a rule would have pointed out in the last 30 days. Nothing is saved."""
    rule = await _rule(visitor, services, code)
    try:
        change = _rule_change(rule, form)
        command = BacktestRule(visitor.account_id, change, _DAYS)

        def look(unit: Unit) -> dict[str, Any]:
            result = backtest_rule(unit, command)
            found = customers_named(unit, visitor.account_id, [each.finding.customer_id for each in result.examples])
            return {
                "result": result,
                "customer_name": customer_names(visitor, found),
                "currency": get_program(unit, GetProgram(visitor.account_id)).rules.currency,
            }

        tried = await services.runner.read(look)
    except Refused as error:
        return _rule_refused(request, rule, form, error)
    return _rule_page(request, rule, Form(form.fields, blank(request).key), tried=tried)


async def _rule(visitor: Visit, services: Services, code: str) -> Rule[Any]:
    kind = kind_of(code)
    found = await services.runner.read(lambda unit: fraud_rules(unit, visitor.account_id))
    return found.rule(kind.code)


def _rule_form(request: Request, rule: Rule[Any]) -> Form:
    params = {f"params.{name}": str(value) for name, value in show_params(rule.params).items()}
    return blank(
        request,
        enabled="on" if rule.enabled else None,
        shadow="on" if rule.shadow else None,
        action=rule.action,
        severity=rule.severity,
        score=str(rule.score),
        cooldown=show_duration(rule.cooldown),
        version=str(rule.version),
        **params,
    )


def _rule_change(rule: Rule[Any], form: Form) -> RuleChange:
    """The change that a form asks for. Raises `InvalidInput` that names the field."""
    action, severity = form.text("action"), form.text("severity")
    if action not in get_args(Action) or severity not in get_args(Severity):
        raise InvalidInput("Select an action and a severity.")
    score = read_whole(form.text("score"), "score")
    if score is None or score > 100:
        raise InvalidInput("Write a whole number from 0 to 100.", code="invalid_field", param="score")
    return RuleChange(
        rule.code,
        enabled=form.checked("enabled"),
        shadow=form.checked("shadow"),
        action=cast("Action", action),
        severity=cast("Severity", severity),
        score=score,
        cooldown=read_cooldown(form.text("cooldown")),
        params={name: _value(form.text(f"params.{name}")) for name in show_params(rule.params)},
        version=read_whole(form.text("version"), "version"),
    )


def _value(text: str) -> object:
    """A parameter as the API writes it: an integer, a share, or a text. The rule checks it."""
    for kind in (int, float):
        try:
            return kind(text[:32])
        except ValueError:
            continue
    return text


def _rule_refused(request: Request, rule: Rule[Any], form: Form, error: Refused) -> Response:
    known = ("action", "score", "cooldown", *(f"params.{name}" for name in show_params(rule.params)))
    return _rule_page(request, rule, refused(request, form, error, *known), status=status_of(error))


def _rule_page(
    request: Request, rule: Rule[Any], form: Form, *, status: int = 200, tried: dict[str, Any] | None = None
) -> Response:
    return page(
        request,
        "fraud/rule.html",
        title=fraud_words.TITLES[rule.code],
        status=status,
        rule=rule,
        form=form,
        words=fraud_words,
        params=list(show_params(rule.params)),
        action_choices=[(each, fraud_words.ACTIONS[each]) for each in rule.params.actions],
        tried=tried,
        count_of=count_of,
        shown_measurement=shown_measurement,
        path_=f"{_RULES}/{rule.code}",
    )
