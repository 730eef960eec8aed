"""Cases: one is open at a time, hits count, and a closed case is quiet for a while."""

import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.events.fraud import Measurement as MeasurementShown
from loyalpro.kernel.errors import Conflict
from loyalpro.loyalty.fraud.cases import (
    FraudCase,
    Resolution,
    closed,
    hash_of_key,
    lapses_before,
    next_step,
    opened,
    repeated,
    revealed,
    shown_measurement,
)
from loyalpro.loyalty.fraud.durations import DAY, HOUR
from loyalpro.loyalty.fraud.judgment import Finding, Measurement
from loyalpro.loyalty.fraud.rules import Rule, VelocityEarn

NOW = 1_795_000_000_000
RULE = Rule("frule_1", VelocityEarn(), "hold", "medium", 50, version=3)


def finding(
    rule: Rule[VelocityEarn] = RULE,
    *,
    key: str = "cus_1",
    evidence: tuple[str, ...] = ("txn_1",),
    key_type: str = "customer",
) -> Finding:
    return Finding(rule, key, Measurement("count", 5, 5, "PT1H", key_type), evidence, "cus_1")


def case(rule: Rule[VelocityEarn] = RULE) -> FraudCase:
    return opened(finding(rule), "frd_1", "acct_1", rule.action, NOW)


def test_the_first_finding_opens_a_case_with_what_was_measured() -> None:
    assert next_step(RULE, None, NOW) == "open"
    first = case()
    assert (first.rule_code, first.rule_version, first.hits, first.status, first.action) == (
        "velocity.earn",
        3,
        1,
        "open",
        "hold",
    )
    assert first.measurement == {
        "aggregate": "count",
        "value": 5,
        "threshold": 5,
        "severity_ratio": 1,
        "window": "PT1H",
        "key_type": "customer",
    }
    assert json.loads(json.dumps(first.measurement)) == MeasurementShown(**first.measurement).data()


def test_example_28_a_finding_while_a_case_is_open_counts_as_a_hit() -> None:
    assert next_step(RULE, case(), NOW + 1) == "repeat"
    second = repeated(case(), finding(evidence=("txn_1", "txn_2")), NOW + 1)
    assert (second.hits, second.evidence, second.first_at, second.last_at) == (2, ("txn_1", "txn_2"), NOW, NOW + 1)
    assert second.measurement == case().measurement


@given(st.lists(st.lists(st.integers(0, 60), max_size=20), max_size=12))
def test_evidence_is_at_most_20_different_ids_and_the_first_stay(batches: list[list[int]]) -> None:
    current = case()
    for hits, ids in enumerate(batches, start=2):
        before = current.evidence
        current = repeated(current, finding(evidence=tuple(f"txn_{each}" for each in ids)), NOW)
        assert current.hits == hits
        assert current.evidence[: len(before)] == before
        assert len(current.evidence) == len(set(current.evidence)) <= 20


def test_the_key_of_a_case_is_a_hash_of_kind_and_value() -> None:
    hashes = {hash_of_key(each) for each in (finding(), finding(key="cus_2"), finding(key_type="device"))}
    assert {len(each) for each in hashes} == {32}
    assert len(hashes) == 3
    assert hash_of_key(finding()) == hash_of_key(finding(evidence=("txn_9",)))


@pytest.mark.parametrize(
    ("resolution", "cooldown", "quiet"),
    [
        ("confirmed", 24 * HOUR, 24 * HOUR),
        ("lapsed", 24 * HOUR, 24 * HOUR),
        ("false_positive", 24 * HOUR, 30 * DAY),
        ("false_positive", 60 * DAY, 60 * DAY),
        ("confirmed", 0, 0),
    ],
)
def test_after_a_case_is_closed_its_rule_ignores_the_key_for_a_while(
    resolution: Resolution, cooldown: int, quiet: int
) -> None:
    rule = replace(RULE, cooldown=cooldown)
    ended = closed(case(rule), resolution, "key:key_1", "seen", NOW + DAY)
    assert (ended.status, ended.resolved_at, ended.resolved_by, ended.note) == (
        resolution,
        NOW + DAY,
        "key:key_1",
        "seen",
    )
    assert next_step(rule, ended, NOW + DAY + quiet) == "open"
    if quiet:
        assert next_step(rule, ended, NOW + DAY + quiet - 1) == "ignore"


def test_a_case_is_closed_once() -> None:
    ended = closed(case(), "confirmed", "key:key_1", None, NOW)
    with pytest.raises(Conflict) as caught:
        closed(ended, "false_positive", "key:key_1", None, NOW)
    assert caught.value.code == "fraud_case_closed"


def test_a_shadow_case_is_revealed_by_the_first_hit_after_the_shadow() -> None:
    shadow = replace(RULE, shadow=True)
    kept = case(shadow)
    assert kept.shadow
    assert next_step(shadow, kept, NOW) == "repeat"
    assert next_step(RULE, kept, NOW) == "reveal"
    shown = revealed(kept, finding(replace(RULE, version=4)), "hold", NOW + 5)
    assert (shown.shadow, shown.hits, shown.rule_version, shown.action) == (False, 2, 4, "hold")
    assert next_step(RULE, shown, NOW) == "repeat"


def test_a_live_case_stays_live_while_its_rule_is_in_shadow() -> None:
    assert next_step(replace(RULE, shadow=True), case(), NOW) == "repeat"


def test_an_open_case_lapses_90_days_after_its_last_hit() -> None:
    assert lapses_before(NOW + 90 * DAY) == NOW


@given(
    st.lists(
        st.tuples(st.integers(0, 40 * DAY), st.sampled_from(["hit", "confirmed", "false_positive", "lapsed"])),
        max_size=30,
    )
)
def test_invariant_13_there_is_at_most_one_open_case_and_one_event_a_case(steps: list[tuple[int, str]]) -> None:
    cases: list[FraudCase] = []
    now, events = NOW, 0
    for wait, what in steps:
        now += wait
        latest = cases[-1] if cases else None
        if what == "hit":
            step = next_step(RULE, latest, now)
            if step == "open":
                cases.append(opened(finding(), f"frd_{len(cases)}", "acct_1", "flag", now))
                events += 1
            elif step == "repeat":
                cases[-1] = repeated(cases[-1], finding(), now)
        elif latest and latest.status == "open":
            cases[-1] = closed(latest, what, "key:key_1", None, now)  # type: ignore[arg-type]
        assert sum(each.status == "open" for each in cases) <= 1
        assert events == len(cases)
    for earlier, later in pairwise(cases):
        quiet = 30 * DAY if earlier.status == "false_positive" else RULE.cooldown
        assert later.first_at >= (earlier.resolved_at or 0) + quiet


def test_a_measurement_is_shown_with_at_most_four_decimals() -> None:
    shown = shown_measurement(Measurement("ratio", Fraction(2, 3), Fraction(1, 2), "P60D", "customer"))
    assert (shown["value"], shown["threshold"], shown["severity_ratio"]) == (0.6667, 0.5, 1.3333)
    assert shown_measurement(Measurement("ratio", Fraction(1), Fraction(1, 2), None, "customer"))["severity_ratio"] == 2


def test_a_measurement_is_never_larger_than_json_can_count() -> None:
    shown = shown_measurement(Measurement("sum", 2**60, 5_000, "P1D", "actor"))
    assert shown["value"] == 2**53 - 1
