"""`/v1/program`: the rules by which customers earn points, keep them, and move between tiers; and their versions."""

import json
import re
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal, Self, cast

from fastapi import APIRouter, Header, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import NotFound
from loyalpro.kernel.merge_patch import merged
from loyalpro.loyalty import program_changes
from loyalpro.loyalty.earning import EarnRule, EarnSettings, ItemMatch, Rate
from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.program import ProgramVersion, RefundPolicy, Rules
from loyalpro.loyalty.program_changes import ProgramDraft, TierDraft
from loyalpro.loyalty.program_preview import Preview
from loyalpro.loyalty.tiers import Benefit, Tier, TierPolicy, TierWindow
from loyalpro.web.answers import Actor, Count, CurrencyCode, Page, PointCount, TierId, Time
from loyalpro.web.api.fields import MAX_AMOUNT, Body, Description, Limit, LongText, ShortText, Whole, few
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.field_errors import refusal
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(prefix="/v1/program", tags=["program"], route_class=StrictRoute.needing(write="program"))


class MadeView(TypedDict):
    """What made a version of the program, when and why."""

    version: Count
    note: str | None
    actor: Actor
    created_at: Time


class PendingView(TypedDict):
    """How long points are pending."""

    days: int


class TierOfProgram(TypedDict):
    """A tier, lowest rank first."""

    id: TierId
    name: str
    rank: Count
    threshold: int
    multiplier_permille: Annotated[int, Field(examples=[1000])]
    benefits: list[Benefit]


class ProgramContent(TypedDict):
    """What a patch of the program can change, but the note."""

    currency: CurrencyCode
    time_zone: Annotated[str, Field(examples=["Europe/Berlin"])]
    earning: EarnSettings
    expiry: ExpiryPolicy
    pending: PendingView
    refunds: RefundPolicy
    tiers: list[TierOfProgram]
    tiering: TierPolicy
    point_value: Annotated[str | None, Field(examples=["0.01"])]


class ProgramView(ProgramContent):
    """A version of the program."""

    version: Count
    note: str | None
    actor: Actor
    created_at: Time


class EffectView(TypedDict):
    """What the change would have done to the purchases since a time."""

    since: Time
    purchases: Count
    is_truncated: bool
    points_before: PointCount
    points_after: PointCount
    customers: Count
    customers_up: Count
    customers_down: Count


class PreviewView(TypedDict):
    """A change that is not made, and its effect."""

    dry_run: bool
    program: ProgramContent
    effect: EffectView


MAX_POINTS: Final = 10**6
"""The most points that one rule, bonus or threshold step can state; a typing error is rather found than paid out."""
_LONGEST_VERSION: Final = 15
_VERSION: Final = re.compile(r"(?:W/)?\"(\d{1,15})\"", re.ASCII)


def _of_form(pattern: str, example: str) -> AfterValidator:
    """Refuses a text of another form, and shows an example."""
    form = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not form.fullmatch(text):
            raise PydanticCustomError("form", "Send a text of the form {example}", {"example": example})
        return text

    return AfterValidator(check)


Points = Annotated[Whole, Field(ge=1, le=MAX_POINTS)]
Factor = Annotated[str, Field(max_length=32), _of_form(r"(?=.*[1-9])\d{1,9}(\.\d{1,12})?", "0.0061")]
PointValue = Annotated[
    str,
    Field(max_length=32, description="What a point is worth in major units, for reports: a decimal as a string."),
    _of_form(r"\d{1,9}(\.\d{1,9})?", "0.01"),
]
MonthDay = Annotated[str, Field(max_length=32), _of_form(r"\d\d-\d\d", "12-31")]
MinSpend = Annotated[
    Whole, Field(ge=1, le=MAX_AMOUNT, description="In minor units of the program's currency: 5000 is 50.00.")
]
Currency = Annotated[str, Field(max_length=32, description="ISO 4217, such as EUR.")]
Permille = Annotated[Whole, Field(ge=0, le=100_000, description="1000 is once, 1500 is one and a half times.")]


class MatchBody(Body):
    """The items that have one of these SKUs or categories."""

    skus: Annotated[list[LongText], Field(max_length=500)] = Field(default_factory=list)
    categories: Annotated[list[LongText], Field(max_length=100)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not (self.skus or self.categories):
            raise PydanticCustomError("empty", "Name at least one SKU or category, or leave this out to mean all items")
        return self

    def match(self) -> ItemMatch:
        """The match of the program."""
        return ItemMatch(tuple(self.skus), tuple(self.categories))


class RateBody(Body):
    """`points` for every `per_amount` minor units."""

    points: Points
    per_amount: Annotated[Whole, Field(ge=1, le=MAX_AMOUNT)]


class RuleBody(Body):
    """A way to earn: rates for amounts by currency, or points for each piece. Leave `id` out to add one."""

    id: ShortText | None = None
    name: LongText
    rates: Annotated[dict[str, RateBody], few(50)] = Field(default_factory=dict)
    points_per_item: Points | None = None
    match: MatchBody | None = None
    min_spend: MinSpend | None = None

    def rule(self) -> EarnRule:
        """The rule of the program; a new one has an empty id."""
        return EarnRule(
            id=self.id or "",
            name=self.name,
            rates={code: Rate(rate.points, rate.per_amount) for code, rate in self.rates.items()},
            points_per_item=self.points_per_item,
            match=None if self.match is None else self.match.match(),
            min_spend=self.min_spend,
        )


class EarningBody(Body):
    """What purchases earn."""

    rules: Annotated[list[RuleBody], Field(min_length=1, max_length=50)]
    exclude: MatchBody | None = None
    min_spend: MinSpend | None = None
    rounding: Literal["floor", "half_up", "ceil"] = "floor"
    combine: Literal["highest", "add"] = "highest"
    tax: Literal["included", "excluded"] = "included"
    shipping: Literal["excluded", "earns"] = "excluded"
    gift_card: Literal["included", "excluded"] = "included"
    max_points_per_order: Annotated[Whole, Field(ge=1, le=10**9)] | None = None
    max_points_per_day: Annotated[Whole, Field(ge=1, le=10**9)] | None = None
    enrollment_points: Annotated[Whole, Field(ge=0, le=MAX_POINTS)] = 0
    conversion: Annotated[
        dict[str, Factor],
        few(200),
        Field(description="By currency, what one major unit is worth in the program's: a decimal as a string."),
    ] = Field(default_factory=dict)

    def settings(self) -> EarnSettings:
        """The settings of the program."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return EarnSettings(
            **given
            | {"rules": tuple(each.rule() for each in self.rules), "exclude": self.exclude and self.exclude.match()}
        )


class ExpiryBody(Body):
    """How long points last."""

    kind: Literal["months", "days", "date", "inactivity", "never"] = "months"
    n: Annotated[Whole, Field(ge=1, le=3_650)] = 12
    until: Literal["day", "month", "quarter", "year"] = "day"
    month_day: MonthDay | None = None


class PendingBody(Body):
    """After how many days points become available; 0: at once."""

    days: Annotated[Whole, Field(ge=0, le=365)] = 0


class RefundsBody(Body):
    """What a refund does when points are spent or have expired, and to the tier."""

    shortfall: Literal["allow_negative", "within_balance", "only_pending"] = "allow_negative"
    restore_expired: Literal["extend", "expire_now"] = "extend"
    tier: Literal["at_review", "immediate"] = "at_review"


class BenefitBody(Body):
    """What a tier gives: a code for programs, and a text for people."""

    code: ShortText
    text: LongText


class TierBody(Body):
    """A tier. Leave `id` out to add one; a tier that is missing in the list is retired. The threshold decides the rank."""

    id: ShortText | None = None
    name: ShortText
    rank: Annotated[Whole, Field(ge=1, description="Is shown; the order of the thresholds decides it.")] | None = None
    threshold: Annotated[Whole, Field(ge=0, le=10**12)]
    multiplier_permille: Permille = 1_000
    benefits: Annotated[list[BenefitBody], Field(max_length=20)] = Field(default_factory=list)

    def draft(self) -> TierDraft:
        """The tier as it shall be."""
        benefits = tuple(Benefit(each.code, each.text) for each in self.benefits)
        return TierDraft(self.id, self.name, self.threshold, self.multiplier_permille, benefits)


class WindowBody(Body):
    """The days that count toward tiers."""

    kind: Literal["rolling", "calendar", "anniversary", "lifetime"] = "rolling"
    n: Annotated[Whole, Field(ge=1, le=3_650)] = 12
    unit: Literal["months", "days"] = "months"
    period: Literal["year", "quarter", "month"] = "year"
    starts_month: Annotated[Whole, Field(ge=1, le=12)] = 1


class TieringBody(Body):
    """How customers move between tiers."""

    metric: Literal["points_earned", "spend", "transactions"] = "points_earned"
    window: WindowBody = Field(default_factory=WindowBody)
    downgrade: Literal["to_qualified", "one_level", "never"] = "to_qualified"
    grace_days: Annotated[Whole, Field(ge=0, le=365)] = 0


class ProgramBody(Body):
    """The whole program, as it is after a patch."""

    currency: Currency
    time_zone: Annotated[str, Field(max_length=64, description="IANA name, such as Europe/Berlin.")]
    earning: EarningBody
    expiry: ExpiryBody = Field(default_factory=ExpiryBody)
    pending: PendingBody = Field(default_factory=PendingBody)
    refunds: RefundsBody = Field(default_factory=RefundsBody)
    tiers: Annotated[list[TierBody], Field(min_length=1, max_length=20)]
    tiering: TieringBody = Field(default_factory=TieringBody)
    point_value: PointValue | None = None
    note: Description | None = None

    def draft(self) -> ProgramDraft:
        """The program as it shall be."""
        return ProgramDraft(self.rules(), tuple(each.draft() for each in self.tiers), self.note)

    def rules(self) -> Rules:
        """The rules without the tiers."""
        return Rules(
            currency=self.currency,
            time_zone=self.time_zone,
            earning=self.earning.settings(),
            expiry=ExpiryPolicy(**_fields(self.expiry)),
            pending_days=self.pending.days,
            refunds=RefundPolicy(**_fields(self.refunds)),
            tiering=TierPolicy(**_fields(self.tiering) | {"window": TierWindow(**_fields(self.tiering.window))}),
            point_value=self.point_value,
        )


class ProgramPatch(Body):
    """A JSON Merge Patch (RFC 7396) of the program: objects are merged, lists are replaced, null sets the default."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"earning": {"rounding": "half_up", "max_points_per_day": 5_000}, "note": "Half points count"},
                {"expiry": {"kind": "months", "n": 24, "until": "year"}},
            ]
        }
    )

    currency: Currency | None = None
    time_zone: str | None = None
    earning: dict[str, Any] | None = None
    expiry: dict[str, Any] | None = None
    pending: dict[str, Any] | None = None
    refunds: dict[str, Any] | None = None
    tiers: list[dict[str, Any]] | None = None
    tiering: dict[str, Any] | None = None
    point_value: str | None = None
    note: Description | None = None


DryRun = Annotated[bool, Query(description="Make no change; the response tells the effect on the last 30 days.")]
IfMatch = Annotated[str | None, Header(description="The `ETag` of the version that is to be changed.", max_length=256)]


@router.get("", summary="Get the program")
async def get(account_id: AccountId, services: ServicesDep, response: Response) -> ProgramView:
    """The version in force. Its number is in `version`, and in the header `ETag`."""
    query = program_changes.GetProgram(account_id)
    found = await services.runner.read(lambda unit: program_changes.get_program(unit, query))
    return _with_etag(response, found)


@router.patch("", summary="Change the program")
async def update(
    account_id: AccountId,
    caller: Caller,
    services: ServicesDep,
    response: Response,
    body: ProgramPatch,
    *,
    dry_run: DryRun = False,
    if_match: IfMatch = None,
) -> ProgramView | PreviewView:
    """Makes the next version, if anything changes. Purchases that are recorded already keep what they earned."""
    patch = {name: getattr(body, name) for name in body.model_fields_set}
    command = program_changes.ChangeProgram(account_id, lambda current: _draft(current, patch), _versions(if_match))
    if dry_run:
        return await _previewed(services, command)
    changed = await services.runner.change(
        lambda unit: program_changes.change_program(unit, command), actor=caller.actor
    )
    return _with_etag(response, changed)


@router.get("/versions", summary="List the versions of the program, newest first")
async def versions(
    account_id: AccountId,
    services: ServicesDep,
    limit: Limit = 20,
    cursor: Annotated[str | None, Query(max_length=15, description="`next_cursor` of the previous page.")] = None,
) -> Page[MadeView]:
    """What made each version, when and why."""
    before = None if cursor is None else _number(cursor, param="cursor")
    query = program_changes.ListVersions(account_id, before, limit + 1)
    found = await services.runner.read(lambda unit: program_changes.list_versions(unit, query))
    shown = [_made(each) for each in found[:limit]]
    return {"data": shown, "next_cursor": str(shown[-1]["version"]) if len(found) > limit else None}


@router.get("/versions/{version}", summary="Get a version of the program")
async def get_version(account_id: AccountId, services: ServicesDep, version: str) -> ProgramView:
    """The rules and tiers that were in force with it."""
    query = program_changes.GetProgram(account_id, _number(version, param="version"))
    return _shown(await services.runner.read(lambda unit: program_changes.get_program(unit, query)))


async def _previewed(services: Services, command: program_changes.ChangeProgram) -> PreviewView:
    preview = await services.runner.read(lambda unit: Preview(unit, command))
    while await services.runner.read(preview.step):
        pass
    effect = asdict(preview.effect) | {"since": rfc3339(preview.effect.since)}
    return {"dry_run": True, "program": _content(preview.after), "effect": cast("EffectView", effect)}


def _draft(current: ProgramVersion, patch: dict[str, Any]) -> ProgramDraft:
    """The program after a patch. Raises `InvalidInput` that names the field."""
    document = json.loads(json.dumps(_content(current)))
    try:
        return ProgramBody.model_validate(merged(document, patch)).draft()
    except ValidationError as error:
        raise refusal(error) from None


def _versions(if_match: str | None) -> frozenset[int] | None:
    """The versions that an `If-Match` accepts; None for every one."""
    if if_match is None or if_match.strip() == "*":
        return None
    return frozenset(int(number) for number in _VERSION.findall(if_match))


def _number(text: str, *, param: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > _LONGEST_VERSION:
        raise NotFound(f"{text[:64]!r} is not the number of a version.", param=param)
    return int(text)


def _with_etag(response: Response, version: ProgramVersion) -> ProgramView:
    response.headers["ETag"] = f'"{version.version}"'
    return _shown(version)


def _shown(version: ProgramVersion) -> ProgramView:
    return {"version": version.version, **_content(version), **_made(version)}


def _made(version: ProgramVersion) -> MadeView:
    return {
        "version": version.version,
        "note": version.note,
        "actor": version.actor,
        "created_at": rfc3339(version.created_at),
    }


def _content(version: ProgramVersion) -> ProgramContent:
    """What a patch can change, but the note."""
    rules = asdict(version.rules)
    return {
        "currency": rules["currency"],
        "time_zone": rules["time_zone"],
        "earning": rules["earning"],
        "expiry": rules["expiry"],
        "pending": {"days": rules["pending_days"]},
        "refunds": rules["refunds"],
        "tiers": [_tier(each) for each in version.tiers],
        "tiering": rules["tiering"],
        "point_value": rules["point_value"],
    }


def _tier(tier: Tier) -> TierOfProgram:
    shown = asdict(tier)
    del shown["retired_at"]
    return cast("TierOfProgram", shown)


def _fields(body: BaseModel) -> dict[str, Any]:
    return {name: getattr(body, name) for name in type(body).model_fields}
