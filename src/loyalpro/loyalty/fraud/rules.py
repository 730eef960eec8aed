"""The twelve fraud rules: what each counts under which key, its parameters with their limits, and its defaults.

A parameter is an integer in here: a count, points, minor units of the program's currency, milliseconds, or permille of a share.
The API shows durations in ISO 8601 and shares as numbers from 0 to 1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar, get_args, get_type_hints

from loyalpro.kernel.errors import InvalidInput, NotFound
from loyalpro.kernel.nearest import suggestion
from loyalpro.kernel.record import record
from loyalpro.loyalty.fraud.durations import DAY, HOUR, MINUTE, SECOND, DurationMs, parse_duration, show_duration
from loyalpro.loyalty.ledger import MAX_POINTS

RuleCode = Literal[
    "velocity.earn",
    "velocity.redeem",
    "amount.outlier",
    "points.cap",
    "refund.abuse",
    "refund.after_redeem",
    "account.change_then_redeem",
    "dormant.burst",
    "identity.shared",
    "employee.self_accrual",
    "employee.adjustments",
    "receipt.duplicate",
]
KeyType = Literal["customer", "value", "employee_customer", "actor", "receipt"]
Action = Literal["flag", "hold", "block"]
Severity = Literal["low", "medium", "high"]
Aggregate = Literal["count", "sum", "distinct", "ratio"]

LOCAL_DAY: Final = "P1D"
"""How the window of a rule is shown that counts a local day of the program."""

COOLDOWN: Final[DurationMs] = 24 * HOUR
LONGEST_COOLDOWN: Final[DurationMs] = 365 * DAY

_PERMILLE: Final = 1_000
_MOST_MONEY: Final = 10**12 - 1
_MOST_POINTS: Final = 10**12


class Kind(Protocol):
    """How a parameter is written in the API, and its limits."""

    def read(self, value: object, param: str) -> int:
        """The integer that stands for a value of the API. Raises `InvalidInput` that names `param`."""
        ...

    def show(self, value: int) -> int | float | str:
        """The value of the API for the integer."""
        ...


@record
class Whole:
    """An integer within limits."""

    least: int
    most: int

    def read(self, value: object, param: str) -> int:
        """The integer; `5.0` is one, because JSON has one kind of number."""
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(whole, bool) or not isinstance(whole, int) or not self.least <= whole <= self.most:
            raise _invalid(param, f"Send a whole number from {self.least} to {self.most}.")
        return whole

    def show(self, value: int) -> int:
        """The integer."""
        return value


@record
class Share:
    """A share of a whole, more than 0 and at most 1, in steps of a permille."""

    def read(self, value: object, param: str) -> int:
        """The share in permille."""
        permille = Fraction(str(value)) * _PERMILLE if _is_finite(value) else Fraction(0)
        if permille.denominator != 1 or not 0 < permille <= _PERMILLE:
            raise _invalid(param, "Send a share from 0.001 to 1 with at most three decimals, such as 0.5.")
        return permille.numerator

    def show(self, value: int) -> int | float:
        """The share as a number."""
        return number(Fraction(value, _PERMILLE))


@record
class Span:
    """A duration within limits, in whole multiples of `step`."""

    least: DurationMs
    most: DurationMs
    step: DurationMs = SECOND

    def read(self, value: object, param: str) -> DurationMs:
        """The duration of an ISO 8601 text."""
        duration = parse_duration(value) if isinstance(value, str) else None
        if duration is None or not self.least <= duration <= self.most or duration % self.step:
            steps = "" if self.step == SECOND else ", in whole days"
            limits = f"from {show_duration(self.least)} to {show_duration(self.most)}{steps}"
            raise _invalid(param, f"Send an ISO 8601 duration without months and years {limits}.")
        return duration

    def show(self, value: DurationMs) -> str:
        """The duration in ISO 8601."""
        return show_duration(value)


Money = Annotated[int, Whole(0, _MOST_MONEY)]
Points = Annotated[int, Whole(1, _MOST_POINTS)]
Repeats = Annotated[int, Whole(2, 100)]
Permille = Annotated[int, Share()]
Days = Annotated[DurationMs, Span(DAY, 1_825 * DAY, DAY)]
LiveWindow = Annotated[DurationMs, Span(MINUTE, 2 * DAY)]


class Params:
    """The parameters of one rule, and what cannot be changed of the rule.

    `actions`: those that the rule can take. `fixed_window`: how the window is shown of a rule that has no parameter for it.
    """

    __slots__ = ()
    code: ClassVar[RuleCode]
    key_type: ClassVar[KeyType]
    severity: ClassVar[Severity]
    score: ClassVar[int]
    actions: ClassVar[tuple[Action, ...]] = ("flag", "hold", "block")
    fixed_window: ClassVar[str | None] = None


_REDEMPTION: Final[tuple[Action, ...]] = ("flag", "block")
_REFUND: Final[tuple[Action, ...]] = ("flag",)


@record
class VelocityEarn(Params):
    """Many purchases that earn: `threshold` or more in `window`, or `long_threshold` or more in `long_window`."""

    code: ClassVar[RuleCode] = "velocity.earn"
    key_type: ClassVar[KeyType] = "customer"
    severity: ClassVar[Severity] = "medium"
    score: ClassVar[int] = 50

    threshold: Repeats = 5
    window: LiveWindow = HOUR
    long_threshold: Repeats = 8
    long_window: LiveWindow = 24 * HOUR


@record
class VelocityRedeem(Params):
    """Many redemptions: `threshold` or more in `window`."""

    code: ClassVar[RuleCode] = "velocity.redeem"
    key_type: ClassVar[KeyType] = "customer"
    severity: ClassVar[Severity] = "medium"
    score: ClassVar[int] = 60
    actions: ClassVar[tuple[Action, ...]] = _REDEMPTION

    threshold: Repeats = 3
    window: LiveWindow = HOUR


@record
class AmountOutlier(Params):
    """An unusual amount: more than `floor`, and more than the median plus `threshold` times the median absolute deviation.

    Both are those of the customer's last 20 purchases, of which there are at least `min_purchases`.
    """

    code: ClassVar[RuleCode] = "amount.outlier"
    key_type: ClassVar[KeyType] = "customer"
    severity: ClassVar[Severity] = "medium"
    score: ClassVar[int] = 40

    threshold: Annotated[int, Whole(1, 100)] = 6
    floor: Money = 500_00
    min_purchases: Annotated[int, Whole(2, 20)] = 8


@record
class PointsCap(Params):
    """Many points: more than `threshold` earned by purchases of a local day."""

    code: ClassVar[RuleCode] = "points.cap"
    key_type: ClassVar[KeyType] = "customer"
    severity: ClassVar[Severity] = "medium"
    score: ClassVar[int] = 50
    fixed_window: ClassVar[str | None] = LOCAL_DAY

    threshold: Points = 10_000


@record
class RefundAbuse(Params):
    """Much is returned: a share of `threshold` or more of what was spent in `window`, with at least `min_purchases`."""

    code: ClassVar[RuleCode] = "refund.abuse"
    key_type: ClassVar[KeyType] = "customer"
    severity: ClassVar[Severity] = "high"
    score: ClassVar[int] = 70
    actions: ClassVar[tuple[Action, ...]] = _REFUND

    threshold: Permille = 500
    window: Days = 60 * DAY
    min_purchases: Annotated[int, Whole(1, 1_000)] = 4


@record
class RefundAfterRedeem(Params):
    """A refund whose points were spent: it leaves a debt of `threshold` points or more."""

    code: ClassVar[RuleCode] = "refund.after_redeem"
    key_type: ClassVar[KeyType] = "customer"
    severity: ClassVar[Severity] = "low"
    score: ClassVar[int] = 30
    actions: ClassVar[tuple[Action, ...]] = _REFUND

    threshold: Points = 1


@record
class ChangeThenRedeem(Params):
    """A share of `threshold` or more of what is available is redeemed within `window` of a change of e-mail or phone."""

    code: ClassVar[RuleCode] = "account.change_then_redeem"
    key_type: ClassVar[KeyType] = "customer"
    severity: ClassVar[Severity] = "high"
    score: ClassVar[int] = 80
    actions: ClassVar[tuple[Action, ...]] = _REDEMPTION

    threshold: Permille = 500
    window: Annotated[DurationMs, Span(MINUTE, 90 * DAY)] = 24 * HOUR


@record
class DormantBurst(Params):
    """A share of `threshold` or more is redeemed after `window` without a purchase or a redemption."""

    code: ClassVar[RuleCode] = "dormant.burst"
    key_type: ClassVar[KeyType] = "customer"
    severity: ClassVar[Severity] = "medium"
    score: ClassVar[int] = 60
    actions: ClassVar[tuple[Action, ...]] = _REDEMPTION

    threshold: Permille = 800
    window: Days = 180 * DAY


@record
class IdentityShared(Params):
    """`threshold` or more active customers with one device, payment, phone or e-mail address in `window`."""

    code: ClassVar[RuleCode] = "identity.shared"
    key_type: ClassVar[KeyType] = "value"
    severity: ClassVar[Severity] = "high"
    score: ClassVar[int] = 70

    threshold: Annotated[int, Whole(2, 20)] = 3
    window: Annotated[DurationMs, Span(DAY, 90 * DAY)] = 30 * DAY


@record
class SelfAccrual(Params):
    """One employee records `threshold` or more purchases that earn for one customer on a local day."""

    code: ClassVar[RuleCode] = "employee.self_accrual"
    key_type: ClassVar[KeyType] = "employee_customer"
    severity: ClassVar[Severity] = "medium"
    score: ClassVar[int] = 60
    fixed_window: ClassVar[str | None] = LOCAL_DAY

    threshold: Repeats = 4


@record
class ManualCredits(Params):
    """One actor credits more than `threshold` points, or more than `max_entries` times, by hand on a local day."""

    code: ClassVar[RuleCode] = "employee.adjustments"
    key_type: ClassVar[KeyType] = "actor"
    severity: ClassVar[Severity] = "high"
    score: ClassVar[int] = 70
    actions: ClassVar[tuple[Action, ...]] = _REDEMPTION
    fixed_window: ClassVar[str | None] = LOCAL_DAY

    threshold: Points = 5_000
    max_entries: Annotated[int, Whole(1, 1_000)] = 50


@record
class ReceiptDuplicate(Params):
    """Purchases of `threshold` or more customers with one location, amount and minute; the amount is at least `min_amount`."""

    code: ClassVar[RuleCode] = "receipt.duplicate"
    key_type: ClassVar[KeyType] = "receipt"
    severity: ClassVar[Severity] = "low"
    score: ClassVar[int] = 40
    fixed_window: ClassVar[str | None] = "PT1M"

    threshold: Annotated[int, Whole(2, 20)] = 2
    min_amount: Money = 50_00


KINDS: Final[tuple[type[Params], ...]] = (
    VelocityEarn,
    VelocityRedeem,
    AmountOutlier,
    PointsCap,
    RefundAbuse,
    RefundAfterRedeem,
    ChangeThenRedeem,
    DormantBurst,
    IdentityShared,
    SelfAccrual,
    ManualCredits,
    ReceiptDuplicate,
)
"""The parameters of every rule, in the order in which rules are listed."""

_BY_CODE: Final[dict[str, type[Params]]] = {kind.code: kind for kind in KINDS}


def _kinds_of(params: Any) -> dict[str, Kind]:
    hints = get_type_hints(params, include_extras=True)
    return {each.name: get_args(hints[each.name])[1] for each in fields(params)}


_PARAM_KINDS: Final = {params.code: _kinds_of(params) for params in KINDS}

P = TypeVar("P", bound=Params)


@record
class Rule(Generic[P]):
    """One rule of an account. A `shadow` rule opens cases, and does and reports nothing. `version` 1 is the default."""

    id: str
    params: P
    action: Action
    severity: Severity
    score: int
    cooldown: DurationMs = COOLDOWN
    enabled: bool = True
    shadow: bool = False
    version: int = 1

    @property
    def code(self) -> RuleCode:
        """Which rule it is."""
        return self.params.code

    @property
    def window(self) -> str | None:
        """The window as the API shows it; None for a rule without one."""
        window: DurationMs | None = getattr(self.params, "window", None)
        return self.params.fixed_window if window is None else show_duration(window)


class RuleSet:
    """The rules of an account. A rule that was never changed has its defaults."""

    def __init__(self, account_id: str, changed: Iterable[Rule[Any]] = ()) -> None:
        stored = {rule.code: rule for rule in changed}
        self._rules = {kind.code: stored.get(kind.code) or default_rule(account_id, kind) for kind in KINDS}
        self._enabled = {type(rule.params): rule for rule in self._rules.values() if rule.enabled}

    @property
    def all(self) -> list[Rule[Any]]:
        """Every rule, in the order of `KINDS`."""
        return list(self._rules.values())

    def enabled(self, kind: type[P]) -> Rule[P] | None:
        """The rule with these parameters; None when it is disabled."""
        return self._enabled.get(kind)

    def rule(self, code: str) -> Rule[Any]:
        """A rule by its code. Raises `NotFound`."""
        return self._rules[kind_of(code).code]


def default_rule(account_id: str, kind: type[P]) -> Rule[P]:
    """A rule as every account has it at first."""
    return Rule(rule_id(account_id, kind.code), kind(), "flag", kind.severity, kind.score)


def rule_id(account_id: str, code: RuleCode) -> str:
    """The id of a rule. The account and the code determine it: the account's id, with the number of the rule at its end."""
    number_ = KINDS.index(_BY_CODE[code])
    return f"frule_{account_id.partition('_')[2][:-2]}{number_:02d}"


def kind_of(code: str) -> type[Params]:
    """The parameters of a rule by its code. Raises `NotFound`."""
    kind = _BY_CODE.get(code)
    if kind is None:
        raise NotFound(suggestion(code[:64], list(_BY_CODE), "fraud rule"), param="code")
    return kind


def read_params(current: P, given: Mapping[str, object], *, param: str | None = "params") -> P:
    """The parameters after a change of those that are `given` as the API writes them. Raises `InvalidInput` `invalid_field`.

    `param`: the field that they stand in, for the error.
    """
    kinds = param_kinds(type(current))
    read: dict[str, int] = {}
    for name, value in given.items():
        path = name[:64] if param is None else f"{param}.{name[:64]}"
        if name not in kinds:
            raise _invalid(path, suggestion(name, list(kinds), "parameter of this rule"))
        read[name] = kinds[name].read(value, path)
    return replace(current, **read)  # type: ignore[type-var]  # every subclass of Params is a record


def show_params(params: Params) -> dict[str, int | float | str]:
    """The parameters as the API writes them."""
    return {name: kind.show(getattr(params, name)) for name, kind in param_kinds(type(params)).items()}


def param_kinds(params: type[Params]) -> dict[str, Kind]:
    """How each parameter of a rule is written, in their order."""
    return _PARAM_KINDS[params.code]


def require_action(params: Params, action: Action, *, param: str = "action") -> Action:
    """`action`, if a rule can take it. Raises `InvalidInput` `action_not_available`."""
    if action not in params.actions:
        raise InvalidInput(
            f"{params.code} cannot {action}; it can {' or '.join(params.actions)}.",
            code="action_not_available",
            param=param,
        )
    return action


def read_cooldown(value: str, *, param: str = "cooldown") -> DurationMs:
    """A cooldown as the API writes it. Raises `InvalidInput`."""
    return Span(0, LONGEST_COOLDOWN).read(value, param)


def number(value: Fraction | int) -> int | float:
    """A number of JSON: an integer where it is one, else rounded to four decimals; at most what JSON can count."""
    counted = min(value, MAX_POINTS)
    return int(counted) if counted == int(counted) else round(float(counted), 4)


def _is_finite(value: object) -> bool:
    return not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and abs(value) <= 1))


def _invalid(param: str, detail: str) -> InvalidInput:
    return InvalidInput(detail, code="invalid_field", param=param)
