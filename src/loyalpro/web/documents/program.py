"""The program as a document: what `PATCH /v1/program` and the forms of the dashboard change, checked in one place."""

import json
import re
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from loyalpro.kernel.merge_patch import merged
from loyalpro.loyalty.earning import EarnRule, EarnSettings, ItemMatch, Rate
from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.program import ProgramVersion, RefundPolicy, Rules
from loyalpro.loyalty.program_changes import ProgramDraft, TierDraft
from loyalpro.loyalty.tiers import Benefit, Tier, TierPolicy, TierWindow
from loyalpro.web.answers import Count, CurrencyCode, TierId
from loyalpro.web.field_errors import refusal
from loyalpro.web.fields import MAX_AMOUNT, Body, Description, LongText, ShortText, Whole, few


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


MAX_POINTS: Final = 10**6
"""The most points that one rule, bonus or threshold step can state; a typing error is rather found than paid out."""


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


def program_draft(current: ProgramVersion, patch: dict[str, Any]) -> ProgramDraft:
    """The program after a patch. Raises `InvalidInput` that names the field."""
    document = json.loads(json.dumps(program_content(current)))
    try:
        return ProgramBody.model_validate(merged(document, patch)).draft()
    except ValidationError as error:
        raise refusal(error) from None


def program_content(version: ProgramVersion) -> ProgramContent:
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
