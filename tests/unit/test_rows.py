"""Columns and fields are matched by name, in both directions."""

from dataclasses import replace
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.record import record
from loyalpro.storage.rows import FLAG, JSON, WORDS, RowMapper, enum


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


@record
class Size:
    width: int
    height: int


@record
class Box:
    id: str
    size: Size
    color: Color
    tags: tuple[str, ...] | None
    open: bool
    notes: dict[str, Any]
    inner: Size


BOXES = RowMapper(
    Box,
    "boxes",
    codecs={"color": enum(Color), "tags": WORDS, "open": FLAG, "notes": JSON},
    columns={"open": "is_open", "inner.width": "inner_width", "inner.height": "inner_height"},
    parts={"size": Size, "inner": Size},
)
BOX = Box("box_1", Size(2, 3), Color.BLUE, ("a", "b"), True, {"é": [1]}, Size(4, 5))

sizes = st.builds(Size, st.integers(), st.integers())
boxes = st.builds(
    Box,
    st.text(),
    sizes,
    st.sampled_from(Color),
    st.none() | st.lists(st.from_regex(r"[a-z.]+", fullmatch=True), min_size=1).map(tuple),
    st.booleans(),
    st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.text() | st.none()),
    sizes,
)


def test_columns_follow_the_fields_and_parts_are_spread_out() -> None:
    assert BOXES.columns("b") == (
        "b.id, b.width, b.height, b.color, b.tags, b.is_open, b.notes, b.inner_width, b.inner_height"
    )
    assert BOXES.insert.startswith("INSERT INTO boxes (id, width, height, color,")
    assert BOXES.insert.count("?") == BOXES.width == 9


def test_values_are_what_the_database_can_hold() -> None:
    assert BOXES.values(BOX) == ("box_1", 2, 3, "blue", "a b", 1, '{"é":[1]}', 4, 5)


@given(boxes)
def test_a_record_equals_the_record_of_its_values(box: Box) -> None:
    assert BOXES.record(BOXES.values(box)) == box


def test_a_row_may_have_more_than_the_columns() -> None:
    assert BOXES.records([(*BOXES.values(BOX), "more")]) == [BOX]
    assert BOXES.split((*BOXES.values(BOX), "more", 1)) == (BOX, ("more", 1))
    assert RowMapper(Size, "sizes").split((1, 2, 3)) == (Size(1, 2), (3,))


def test_assignments_have_the_order_of_the_names() -> None:
    assert BOXES.assignments("open", "size") == "is_open = ?, width = ?, height = ?"
    assert BOXES.values_of(replace(BOX, tags=None), "open", "size", "tags") == (1, 2, 3, None)


def test_a_field_that_the_record_does_not_have_is_an_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        RowMapper(Box, "boxes", codecs={"colour": FLAG})
    with pytest.raises(TypeError, match="siz"):
        BOXES.assignments("siz")


def test_one_statement_updates_fields_of_many_rows() -> None:
    assert BOXES.update_many("id", "inner", "open") == (
        "UPDATE boxes SET inner_width = v.column2, inner_height = v.column3, is_open = v.column4"
        " FROM (VALUES {rows}) AS v WHERE boxes.id = v.column1"
    )
    assert BOXES.values_of(BOX, "inner", "open") == (4, 5, 1)
