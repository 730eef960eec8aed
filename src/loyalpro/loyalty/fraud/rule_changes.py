"""Commands about fraud rules: read them, and change them."""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from loyalpro.kernel.changes import changes_of
from loyalpro.kernel.errors import Conflict
from loyalpro.kernel.record import record
from loyalpro.loyalty.fraud.durations import DurationMs
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.loyalty.fraud.rules import Action, Rule, RuleSet, Severity, read_params, require_action
from loyalpro.loyalty.fraud.screening import rules_in_force


@record
class RuleChange:
    """What to change of a rule; None stays. `threshold`, `window` and the other parameters are as the API writes them.

    `version`: the version that is to be changed; None for whichever it is.
    """

    code: str
    enabled: bool | None = None
    shadow: bool | None = None
    action: Action | None = None
    severity: Severity | None = None
    score: int | None = None
    cooldown: DurationMs | None = None
    threshold: object = None
    window: str | None = None
    params: Mapping[str, object] = field(default_factory=dict, hash=False)
    version: int | None = None


@record
class ChangeRules:
    """Rules of an account to change, all of them or none."""

    account_id: str
    changes: Sequence[RuleChange]


def fraud_rules(unit: FraudUnit, account_id: str) -> RuleSet:
    """The rules of an account."""
    return rules_in_force(unit, account_id, unit.programs.get(account_id))


def change_rules(unit: FraudUnit, command: ChangeRules) -> list[Rule[Any]]:
    """Change rules; each one that differs gets the next version. Returns all rules.

    Raises `NotFound` for an unknown code, `InvalidInput` that names the field, and `Conflict` `fraud_rule_changed` when a rule
    has another version than the change names.
    """
    rules = fraud_rules(unit, command.account_id)
    for change in command.changes:
        before = rules.rule(change.code)
        after = changed_rule(before, change)
        if after != before:
            stored = replace(after, version=before.version + 1)
            unit.fraud.store_rule(command.account_id, stored, unit.now)
            unit.audit(command.account_id, "fraud_rule.updated", stored.id, changes_of(before, stored))
            rules = RuleSet(command.account_id, [*(each for each in rules.all if each.code != stored.code), stored])
    return rules.all


def changed_rule(rule: Rule[Any], change: RuleChange) -> Rule[Any]:
    """A rule after a change, with the version that it had."""
    if change.version not in (None, rule.version):
        raise Conflict(
            f"{rule.code} has version {rule.version}, not {change.version}; read the rules, and send the change again.",
            code="fraud_rule_changed",
            param="version",
        )
    named = {name: getattr(change, name) for name in ("enabled", "shadow", "severity", "score", "cooldown")}
    fields: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    fields["params"] = changed_params(rule, change)
    if change.action is not None:
        fields["action"] = require_action(rule.params, change.action)
    return replace(rule, **fields)


def changed_params(rule: Rule[Any], change: RuleChange) -> Any:
    """The parameters of a rule after a change. The window of a rule that has no parameter for it may be named, and stays."""
    named = {"threshold": change.threshold, "window": None if change.window == rule.window else change.window}
    given = {name: value for name, value in named.items() if value is not None}
    return read_params(read_params(rule.params, given, param=None), change.params)
