"""What the audit log tells of a change: the fields that differ, with their values before and after."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.changes import changes_of
from loyalpro.kernel.record import record


@record
class Inner:
    low: int
    high: int


@record
class Outer:
    id: str
    updated_at: int
    name: str | None
    inner: Inner
    rates: dict[str, int]
    tags: tuple[str, ...] = ()


numbers = st.integers(0, 3)
outers = st.builds(
    Outer,
    st.just("x_1"),
    numbers,
    st.sampled_from([None, "a", "b"]),
    st.builds(Inner, numbers, numbers),
    st.dictionaries(st.sampled_from(["EUR", "JPY"]), numbers),
    st.lists(st.sampled_from(["p", "q"])).map(tuple),
)
FIRST = Outer("x_1", 1, None, Inner(1, 2), {"EUR": 1})


def applied(state: Any, was: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """A state after its changes."""
    result = {name: value for name, value in state.items() if name not in was or name in now}
    for name, value in now.items():
        nested = isinstance(value, dict) and isinstance(state.get(name), dict)
        result[name] = applied(state[name], was[name], value) if nested else value
    return result


def shown(state: Outer) -> dict[str, Any]:
    inner = {"low": state.inner.low, "high": state.inner.high}
    return {"name": state.name, "inner": inner, "rates": state.rates, "tags": state.tags}


@given(outers, outers)
def test_the_changes_lead_from_one_state_to_the_other_and_back(before: Outer, after: Outer) -> None:
    changes = changes_of(before, after)
    assert applied(shown(before), changes["before"], changes["after"]) == shown(after)
    assert applied(shown(after), changes["after"], changes["before"]) == shown(before)
    assert (changes == {"before": {}, "after": {}}) == (shown(before) == shown(after))


def test_of_a_record_that_is_a_field_only_the_fields_that_differ_are_named() -> None:
    after = replace(FIRST, updated_at=2, inner=Inner(1, 3), rates={"JPY": 2})
    assert changes_of(FIRST, after) == {
        "before": {"inner": {"high": 2}, "rates": {"EUR": 1}},
        "after": {"inner": {"high": 3}, "rates": {"JPY": 2}},
    }


def test_a_record_that_is_made_has_the_fields_with_a_value() -> None:
    made = {"inner": {"low": 1, "high": 2}, "rates": {"EUR": 1}, "tags": ()}
    assert changes_of(None, FIRST) == {"before": {}, "after": made}
