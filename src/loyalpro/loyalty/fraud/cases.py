"""Cases of fraud rules: when a finding opens one, when it only counts, and how a case ends.

There is at most one open case for a rule and a key. While it is open, each further finding counts as a hit and adds its
evidence. After it is closed, findings are ignored for the cooldown of the rule, and for 30 days after a false positive.
"""

from dataclasses import field, replace
from hashlib import sha256
from typing import Any, Final, Literal

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import Conflict
from loyalpro.kernel.record import record, with_fields
from loyalpro.loyalty.fraud.durations import DAY, DurationMs
from loyalpro.loyalty.fraud.judgment import MOST_EVIDENCE, Finding, Measurement
from loyalpro.loyalty.fraud.rules import Action, Rule, Severity, number

EXEMPTION: Final[DurationMs] = 30 * DAY
"""For how long a rule ignores a key after a false positive."""

LAPSE: Final[DurationMs] = 90 * DAY
"""How long after its last hit an open case is closed by itself."""

RELEASE_VALIDITY: Final[DurationMs] = 30 * DAY
"""For how long points are valid at least, once they are released."""

CaseStatus = Literal["open", "confirmed", "false_positive", "lapsed"]
Resolution = Literal["confirmed", "false_positive", "lapsed"]
Step = Literal["open", "repeat", "reveal", "ignore"]


@record
class FraudCase:
    """A suspicion. `measurement`: that of the finding that opened it, as its event shows it. `evidence`: ids of objects.

    `key_hash`: what the case is about, as `hash_of_key`. `customer_id`: the customer whose event opened it. `action`: what the
    rule did then. `shadow`: neither an event nor an action came of it. `settling`: it is closed, and may still hold lots.
    """

    id: str
    account_id: str
    rule_code: str
    rule_version: int
    key_type: str
    key_hash: bytes
    customer_id: str | None
    measurement: dict[str, Any] = field(hash=False)
    evidence: tuple[str, ...]
    hits: int
    status: CaseStatus
    shadow: bool
    action: Action
    severity: Severity
    score: int
    first_at: UnixMs
    last_at: UnixMs
    resolved_at: UnixMs | None = None
    resolved_by: str | None = None
    note: str | None = None
    settling: bool = False


def hash_of_key(finding: Finding) -> bytes:
    """What the case of a finding is about."""
    return key_hash(finding.measurement.key_type, finding.key)


def key_hash(key_type: str, key: str) -> bytes:
    """What a case is about: SHA-256 of ids, or of the keyed hash of a value such as a phone number."""
    return sha256(f"{key_type}\0{key}".encode()).digest()


def next_step(rule: Rule[Any], latest: FraudCase | None, now: UnixMs) -> Step:
    """What a finding does, given the latest case of its rule and key.

    `open` a case, `repeat` an open one, `ignore` the finding, or `reveal` an open case of the time when the rule was in shadow:
    it counts as a hit, and its event and action follow now.
    """
    if latest is None:
        return "open"
    if latest.status == "open":
        return "reveal" if latest.shadow and not rule.shadow else "repeat"
    return "ignore" if now < _quiet_until(rule, latest) else "open"


def _quiet_until(rule: Rule[Any], closed: FraudCase) -> UnixMs:
    exemption = EXEMPTION if closed.status == "false_positive" else 0
    return (closed.resolved_at or closed.last_at) + max(rule.cooldown, exemption)


def opened(finding: Finding, case_id: str, account_id: str, action: Action, now: UnixMs) -> FraudCase:
    """A new case. `action`: what the rule does now."""
    rule = finding.rule
    return FraudCase(
        id=case_id,
        account_id=account_id,
        rule_code=rule.code,
        rule_version=rule.version,
        key_type=finding.measurement.key_type,
        key_hash=hash_of_key(finding),
        customer_id=finding.customer_id,
        measurement=shown_measurement(finding.measurement),
        evidence=finding.evidence,
        hits=1,
        status="open",
        shadow=rule.shadow,
        action=action,
        severity=rule.severity,
        score=rule.score,
        first_at=now,
        last_at=now,
    )


def repeated(case: FraudCase, finding: Finding, now: UnixMs) -> FraudCase:
    """An open case after a further hit. The oldest evidence stays."""
    evidence = tuple(dict.fromkeys((*case.evidence, *finding.evidence)))[:MOST_EVIDENCE]
    return with_fields(case, hits=case.hits + 1, evidence=evidence, last_at=now)


def revealed(case: FraudCase, finding: Finding, action: Action, now: UnixMs) -> FraudCase:
    """An open shadow case after a hit of its rule, which is not in shadow any more: from now on it is a case like any other."""
    return replace(
        repeated(case, finding, now),
        shadow=False,
        action=action,
        rule_version=finding.rule.version,
        measurement=shown_measurement(finding.measurement),
        severity=finding.rule.severity,
        score=finding.rule.score,
    )


def closed(case: FraudCase, resolution: Resolution, actor: str, note: str | None, now: UnixMs) -> FraudCase:
    """A case after its end. Raises `Conflict` `fraud_case_closed` when it has ended before."""
    if case.status != "open":
        raise Conflict(
            f"The case is {case.status} already; GET /v1/fraud/cases/{case.id} shows it.",
            code="fraud_case_closed",
            param="id",
        )
    return replace(case, status=resolution, resolved_at=now, resolved_by=actor, note=note)


def lapses_before(now: UnixMs) -> UnixMs:
    """An open case whose last hit was at this instant or before it lapses now."""
    return now - LAPSE


def shown_measurement(measured: Measurement) -> dict[str, Any]:
    """A measurement as events and the API show it."""
    return {
        "aggregate": measured.aggregate,
        "value": number(measured.value),
        "threshold": number(measured.threshold),
        "severity_ratio": measured.severity_ratio,
        "window": measured.window,
        "key_type": measured.key_type,
    }
