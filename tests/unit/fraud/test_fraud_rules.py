"""Fraud rules: their defaults, and how parameters are written, read and refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.errors import InvalidInput, NotFound
from loyalpro.kernel.ids import is_id
from loyalpro.loyalty.fraud.rules import (
    KINDS,
    Params,
    RefundAbuse,
    Rule,
    RuleSet,
    VelocityEarn,
    default_rule,
    kind_of,
    param_kinds,
    read_cooldown,
    read_params,
    require_action,
    rule_id,
    show_params,
)

ACCOUNT = "acct_01kat6b8z3v2m8d4qk7c5n9x1r"
DEFAULTS: list[tuple[str, str, str, int, str | None, dict[str, Any]]] = [
    (
        "velocity.earn",
        "customer",
        "medium",
        50,
        "PT1H",
        {"threshold": 5, "window": "PT1H", "long_threshold": 8, "long_window": "PT24H"},
    ),
    ("velocity.redeem", "customer", "medium", 60, "PT1H", {"threshold": 3, "window": "PT1H"}),
    ("amount.outlier", "customer", "medium", 40, None, {"threshold": 6, "floor": 50_000, "min_purchases": 8}),
    ("points.cap", "customer", "medium", 50, "P1D", {"threshold": 10_000}),
    ("refund.abuse", "customer", "high", 70, "P60D", {"threshold": 0.5, "window": "P60D", "min_purchases": 4}),
    ("refund.after_redeem", "customer", "low", 30, None, {"threshold": 1}),
    ("account.change_then_redeem", "customer", "high", 80, "PT24H", {"threshold": 0.5, "window": "PT24H"}),
    ("dormant.burst", "customer", "medium", 60, "P180D", {"threshold": 0.8, "window": "P180D"}),
    ("identity.shared", "value", "high", 70, "P30D", {"threshold": 3, "window": "P30D"}),
    ("employee.self_accrual", "employee_customer", "medium", 60, "P1D", {"threshold": 4}),
    ("employee.adjustments", "actor", "high", 70, "P1D", {"threshold": 5_000, "max_entries": 50}),
    ("receipt.duplicate", "receipt", "low", 40, "PT1M", {"threshold": 2, "min_amount": 5_000}),
]


def test_every_account_has_twelve_rules_that_flag() -> None:
    rules = RuleSet(ACCOUNT).all
    shown = [(r.code, r.params.key_type, r.severity, r.score, r.window, show_params(r.params)) for r in rules]
    assert shown == DEFAULTS
    assert all(rule.enabled and not rule.shadow and rule.action == "flag" and rule.version == 1 for rule in rules)


def test_an_id_of_a_rule_belongs_to_the_account_and_the_code() -> None:
    ids = {rule_id(account, kind.code) for account in (ACCOUNT, "acct_01kat6b8z3v2m8d4qk7c5nzzz0") for kind in KINDS}
    assert len(ids) == 24
    assert all(is_id("frule", each) for each in ids)


def test_a_changed_rule_replaces_the_default_and_a_disabled_one_is_not_measured() -> None:
    off = Rule("frule_1", VelocityEarn(threshold=9), "hold", "high", 90, enabled=False)
    rules = RuleSet(ACCOUNT, [off])
    assert rules.enabled(VelocityEarn) is None
    assert rules.rule("velocity.earn") is off
    assert rules.enabled(RefundAbuse) == default_rule(ACCOUNT, RefundAbuse)


def test_an_unknown_code_is_not_found_and_the_nearest_is_named() -> None:
    with pytest.raises(NotFound, match=r"velocity\.earn"):
        kind_of("velocity.earns")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
@given(data=st.data())
def test_parameters_read_back_as_they_are_shown(kind: type[Params], data: st.DataObject) -> None:
    values = {name: data.draw(_values(each)) for name, each in param_kinds(kind).items()}
    params = kind(**values)
    wire = json.loads(json.dumps(show_params(params)))
    assert read_params(kind(), wire) == params


def _values(kind: Any) -> st.SearchStrategy[int]:
    if hasattr(kind, "step"):
        return st.integers(kind.least // kind.step, kind.most // kind.step).map(lambda n: int(n * kind.step))
    return st.integers(kind.least, kind.most) if hasattr(kind, "most") else st.integers(1, 1_000)


def test_what_is_not_given_stays() -> None:
    current = VelocityEarn(threshold=7, long_threshold=20)
    assert read_params(current, {"long_window": "PT12H", "threshold": 6.0}) == VelocityEarn(
        6, current.window, 20, 12 * 3_600_000
    )


@pytest.mark.parametrize(
    ("code", "given_", "param"),
    [
        ("velocity.earn", {"threshold": 1}, "params.threshold"),
        ("velocity.earn", {"threshold": True}, "params.threshold"),
        ("velocity.earn", {"threshold": "5"}, "params.threshold"),
        ("velocity.earn", {"threshold": 5.5}, "params.threshold"),
        ("velocity.earn", {"threshold": None}, "params.threshold"),
        ("velocity.earn", {"window": "P3D"}, "params.window"),
        ("velocity.earn", {"window": 3600}, "params.window"),
        ("velocity.earn", {"window": "P1M"}, "params.window"),
        ("velocity.earn", {"windows": "PT1H"}, "params.windows"),
        ("refund.abuse", {"threshold": 0}, "params.threshold"),
        ("refund.abuse", {"threshold": 1.5}, "params.threshold"),
        ("refund.abuse", {"threshold": 0.12345}, "params.threshold"),
        ("refund.abuse", {"threshold": float("nan")}, "params.threshold"),
        ("refund.abuse", {"threshold": 10**400}, "params.threshold"),
        ("refund.abuse", {"threshold": True}, "params.threshold"),
        ("refund.abuse", {"window": "PT36H"}, "params.window"),
        ("points.cap", {"window": "PT1H"}, "params.window"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(code: str, given_: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_params(kind_of(code)(), given_)
    assert (caught.value.code, caught.value.param) == ("invalid_field", param)


@given(st.integers(1, 1_000))
def test_a_share_of_any_permille_is_exact(permille: int) -> None:
    assert read_params(RefundAbuse(), {"threshold": permille / 1000}).threshold == permille


def test_a_rule_takes_only_actions_that_its_events_allow() -> None:
    allowed = {kind.code: kind.actions for kind in KINDS}
    assert allowed["refund.abuse"] == allowed["refund.after_redeem"] == ("flag",)
    assert allowed["velocity.redeem"] == allowed["employee.adjustments"] == ("flag", "block")
    assert require_action(VelocityEarn(), "hold") == "hold"
    with pytest.raises(InvalidInput, match="flag or block") as caught:
        require_action(kind_of("dormant.burst")(), "hold")
    assert caught.value.code == "action_not_available"


def test_a_cooldown_is_a_duration_of_at_most_a_year() -> None:
    assert read_cooldown("PT0S") == 0
    for wrong in ("P366D", "soon"):
        with pytest.raises(InvalidInput):
            read_cooldown(wrong)
