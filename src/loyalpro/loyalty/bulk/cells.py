"""Turns the cells of a CSV row into the fields that the API takes for one object. Pure.

A field named `metadata.shop` is the member `shop` of `metadata`. An empty cell is a field that is left out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.kernel.nearest import suggestion
from loyalpro.kernel.record import record
from loyalpro.kernel.strict_json import parse
from loyalpro.loyalty.bulk.csv_text import Table
from loyalpro.loyalty.expiry import day_start, local_day
from loyalpro.loyalty.money import MINOR_DIGITS

CellKind = Literal["text", "amount", "whole", "instant", "json", "words"]
Fields = Mapping[str, CellKind]
"""The fields of one kind of object, each with the form of its cells.

`amount`: money. `whole`: an integer. `instant`: an RFC 3339 time, or a date, which is its first instant in the program's zone.
`json`: JSON. `words`: texts between `|`.
"""
Amounts = Literal["minor", "major"]
SourceRow = tuple[int, dict[str, Any] | None]
"""A row as it was sent and its line; None for one with another number of cells than the header."""

METADATA: Final = "metadata."
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?\d{1,16}", re.ASCII)
_MAJOR: Final = re.compile(r"([+-]?\d{1,13})(?:([.,])(\d{1,4}))?", re.ASCII)
_MINOR_UNITS: Final = (
    "Amounts are integers in the minor unit, such as 5600 for 56.00. For amounts such as 56.00, set amounts to major."
)


@record
class CellForm:
    """How cells are meant. `comma`: whether a comma may be the decimal sign. `currency`: that of rows without one."""

    amounts: Amounts
    comma: bool
    currency: str
    time_zone: str


def rows_of(table: Table, mapping: Mapping[str, str], fields: Fields) -> list[SourceRow]:
    """The cells of each row that are not empty, by the name of their field. `mapping`: from a field to its column.

    With a mapping, other columns are left out. Without one, every column has to be a field: a column that was misspelled would
    be left out silently. Raises `InvalidInput` `unknown_column` or `unknown_field`.
    """
    columns = {name: index for index, name in enumerate(table.header)}
    chosen = mapping or {name: name for name in table.header if name}
    for field, column in chosen.items():
        if column not in columns:
            raise InvalidInput(suggestion(column, columns, "column"), code="unknown_column", param="mapping")
        if field not in fields and not field.startswith(METADATA):
            raise InvalidInput(
                f"{suggestion(field, fields, 'field')} To leave columns out, send a mapping.",
                code="unknown_column",
                param="mapping" if mapping else "csv",
            )
    places = [(field, columns[column]) for field, column in chosen.items()]
    return [(line, _row(cells, places, len(table.header))) for line, cells in table.rows]


def typed(row: Mapping[str, str], fields: Fields, form: CellForm) -> dict[str, Any]:
    """The object of a row, with values of the types that the API takes. Raises `InvalidInput`, which names the field."""
    found: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    currency = row.get("currency", form.currency)
    for name, cell in row.items():
        if name.startswith(METADATA):
            metadata[name.removeprefix(METADATA)] = cell
        else:
            found[name] = _value(name, cell, fields[name], form, currency)
    whole = found.get("metadata", {})
    if metadata and isinstance(whole, dict):  # else the check of the row refuses it
        found["metadata"] = {**whole, **metadata}
    if "currency" in fields:
        found["currency"] = currency
    return found


def _row(cells: Sequence[str], places: Sequence[tuple[str, int]], width: int) -> dict[str, Any] | None:
    if len(cells) != width:
        return None
    return {field: cells[index].strip() for field, index in places if cells[index].strip()}


def _value(name: str, cell: str, kind: CellKind, form: CellForm, currency: str) -> Any:
    readers: dict[CellKind, Callable[[], Any]] = {
        "text": lambda: cell,
        "amount": lambda: _amount(name, cell, form, currency),
        "whole": lambda: _whole(name, cell, "invalid_field", "Send an integer."),
        "instant": lambda: _instant(name, cell, form.time_zone),
        "json": lambda: _json(name, cell),
        "words": lambda: [word.strip() for word in cell.split("|") if word.strip()],
    }
    return readers[kind]()


def _amount(name: str, cell: str, form: CellForm, currency: str) -> int:
    if form.amounts == "major":
        return _minor(name, cell, form, currency)
    return _whole(name, cell, "invalid_amount", _MINOR_UNITS)


def _whole(name: str, cell: str, code: str, advice: str) -> int:
    if _WHOLE.fullmatch(cell) is None:
        raise InvalidInput(f"{name}: {advice}", code=code, param=name)
    return int(cell)


def _minor(name: str, cell: str, form: CellForm, currency: str) -> int:
    """An amount in major units, such as 56.00, in minor units. Nothing is rounded: too many decimals are refused."""
    digits = MINOR_DIGITS.get(currency, 0)
    match = _MAJOR.fullmatch(cell)
    if match is None or (match[2] == "," and not form.comma) or len(match[3] or "") > digits:
        example = "1234" if digits == 0 else f"1234.{'5' * digits}"
        raise InvalidInput(
            f"{name}: Send an amount such as {example} ({currency[:3]}), without more decimals and separators of thousands.",
            code="invalid_amount",
            param=name,
        )
    sign = -1 if match[1].startswith("-") else 1
    minor: int = int(match[1]) * 10**digits + sign * int((match[3] or "").ljust(digits, "0") or "0")
    return minor


def _instant(name: str, cell: str, time_zone: str) -> str:
    """A time as it is; a date as the first instant of that local day."""
    if _DATE.fullmatch(cell) is None:
        return cell
    day = local_day(cell)
    if day is None:
        raise InvalidInput(f"{name}: There is no such date.", code="invalid_field", param=name)
    return rfc3339(day_start(day, time_zone))


def _json(name: str, cell: str) -> Any:
    try:
        return parse(cell.encode())
    except Refused as refused:
        raise InvalidInput(f"{name}: {refused.detail}", code="invalid_field", param=name) from None
