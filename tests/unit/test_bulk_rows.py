"""CSV in both directions, and cells as fields of the API."""

import csv
import io
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty.bulk.cells import Amounts, CellForm, Fields, typed
from loyalpro.loyalty.bulk.csv_text import csv_lines, delimiter_of, read_csv
from loyalpro.loyalty.money import MINOR_DIGITS

cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12) | st.text("'=+a", max_size=4)
FIELDS: Fields = {
    "amount": "amount",
    "currency": "text",
    "metadata": "json",
    "occurred_at": "instant",
    "points": "whole",
    "tags": "words",
}


def form(amounts: Amounts = "minor", *, comma: bool = False, zone: str = "UTC") -> CellForm:
    return CellForm(amounts, comma, "EUR", zone)


@given(st.lists(st.lists(cells, min_size=3, max_size=3).filter(any), max_size=20))
def test_what_is_written_is_read(rows: list[list[str]]) -> None:
    table = read_csv(csv_lines([["a", "b", "c"], *rows]))
    assert table.header == ("a", "b", "c")
    assert [found for _, found in table.rows] == rows


@given(st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=20))
def test_no_written_cell_begins_like_a_formula(rows: list[list[str]]) -> None:
    for row in csv.reader(io.StringIO(csv_lines(rows), newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)


def test_numbers_are_written_as_they_are() -> None:
    assert csv_lines([[-5, None, 0, True]]) == "-5,,0,True\r\n"


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("a,b;c,d", ","), ("a;b;c,d", ";"), ("a\tb", "\t"), ("a", ","), ('"a;b;c",d', ","), ('"a,b,c";d', ";"), ("", ",")],
)
def test_the_delimiter_is_the_one_that_the_header_has_most_of(header: str, delimiter: str) -> None:
    assert delimiter_of(header) == delimiter


@given(
    st.sampled_from(sorted(MINOR_DIGITS)),
    st.integers(-(10**12), 10**12),
    st.sampled_from([".", ","]),
)
def test_amounts_in_major_units_are_exact(currency: str, minor: int, sign: str) -> None:
    digits = MINOR_DIGITS[currency]
    text = f"{Decimal(minor).scaleb(-digits):.{digits}f}".replace(".", sign)
    row = typed({"amount": text, "currency": currency}, FIELDS, form("major", comma=True))
    assert row == {"amount": minor, "currency": currency}


@pytest.mark.parametrize("text", ["1.005", "1e3", "1,5", "1.5.0", " 1", "1 000", "١", "--1", "+", "."])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        typed({"amount": text}, FIELDS, form("major"))
    assert (refused.value.code, refused.value.param) == ("invalid_amount", "amount")


@pytest.mark.parametrize(
    ("cell", "zone", "instant"),
    [
        ("2026-11-28", "UTC", "2026-11-28T00:00:00.000Z"),
        ("2026-11-28", "Asia/Tokyo", "2026-11-27T15:00:00.000Z"),
        ("2026-09-06", "America/Santiago", "2026-09-06T04:00:00.000Z"),
        ("2026-11-28T10:00:00+01:00", "UTC", "2026-11-28T10:00:00+01:00"),
    ],
)
def test_a_date_is_its_first_instant(cell: str, zone: str, instant: str) -> None:
    assert typed({"occurred_at": cell}, FIELDS, form(zone=zone))["occurred_at"] == instant


@pytest.mark.parametrize("cell", ["2026-02-30", "1969-12-31", "1970-01-01"])
def test_a_date_that_does_not_exist_is_refused(cell: str) -> None:
    with pytest.raises(InvalidInput):
        typed({"occurred_at": cell}, FIELDS, form())


def test_metadata_columns_are_members_of_metadata() -> None:
    row = {"metadata": '{"a":1}', "metadata.b": "x", "tags": "vip| new |", "points": "7"}
    assert typed(row, FIELDS, form()) == {
        "metadata": {"a": 1, "b": "x"},
        "tags": ["vip", "new"],
        "points": 7,
        "currency": "EUR",
    }
    assert typed({"metadata": "[1]", "metadata.b": "x"}, FIELDS, form())["metadata"] == [1]
    with pytest.raises(InvalidInput):
        typed({"metadata": "{"}, FIELDS, form())
