import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.storage.sql import Condition, marks, padded_chunks, padded_list, where

VALUES = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=700)
CONDITIONS = st.lists(
    st.sampled_from(["", "1 = 1"]) | st.tuples(st.sampled_from(["? = 1", "1 = ?"]), st.sampled_from([None, 0, 1])),
    max_size=6,
)


@pytest.mark.parametrize(
    ("conditions", "text", "params"),
    [
        ([], "", []),
        ([""], "", []),
        ([("id < ?", None)], "", []),
        (["test = 0"], "WHERE test = 0", []),
        ([("account_id = ?", "acct_1"), "test = 0"], "WHERE account_id = ? AND test = 0", ["acct_1"]),
        ([("a = ?", 0), ("b = ?", None), ("c = ?", "")], "WHERE a = ? AND c = ?", [0, ""]),
    ],
)
def test_where_keeps_only_conditions_that_have_a_value(
    conditions: list[Condition], text: str, params: list[object]
) -> None:
    assert where(*conditions) == (text, params)


@given(CONDITIONS)
def test_where_has_one_placeholder_for_each_parameter(conditions: list[Condition]) -> None:
    text, params = where(*conditions)
    assert text.count("?") == len(params)
    assert text.startswith("WHERE ") == bool(text)


@given(CONDITIONS)
def test_where_holds_when_every_condition_with_a_value_holds(conditions: list[Condition]) -> None:
    text, params = where(*conditions)
    found = apsw.Connection(":memory:").execute(f"SELECT 1 {text}", params).fetchall()
    wanted = [each[1] for each in conditions if isinstance(each, tuple) and each[1] is not None]
    assert bool(found) == all(value == 1 for value in wanted)


@pytest.mark.parametrize(
    ("count", "row", "text"), [(0, "?", ""), (1, "?", "?"), (3, "?", "?, ?, ?"), (2, "(?, 1)", "(?, 1), (?, 1)")]
)
def test_marks_repeat_one_row(count: int, row: str, text: str) -> None:
    assert marks(count, row) == text


@given(VALUES)
def test_a_padded_list_names_the_same_values_and_has_a_power_of_two_of_them(values: list[int]) -> None:
    padded = padded_list(values)
    assert padded[: len(values)] == values
    assert set(padded) == set(values)
    assert len(padded).bit_count() == 1
    assert len(padded) < 2 * len(values)


@given(VALUES)
def test_padded_chunks_name_each_value_once_but_for_the_padding(values: list[int]) -> None:
    chunks = list(padded_chunks(values))
    assert all(len(chunk).bit_count() == 1 and len(chunk) <= 256 for chunk in chunks)
    assert [value for chunk in chunks for value in chunk][: len(values)] == values
    assert {value for chunk in chunks for value in chunk} == set(values)


def test_no_values_make_no_chunks() -> None:
    assert list(padded_chunks([])) == []
