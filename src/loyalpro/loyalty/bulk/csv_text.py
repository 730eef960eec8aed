"""CSV in both directions: reads what spreadsheets and shops write, and writes cells that no spreadsheet runs as a formula."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record

DELIMITERS: Final = (",", ";", "\t")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_BOM: Final = "\ufeff"


@record
class Table:
    """The header of a CSV text, and its rows; each row with the line on which it begins. Line 1 is the header."""

    header: tuple[str, ...]
    delimiter: str
    rows: list[tuple[int, list[str]]]


def read_csv(text: str) -> Table:
    """Read a CSV text with a header. The delimiter is the one of `,`, `;` and tab that the header has most of.

    Blank lines are left out. An apostrophe in front of a cell that begins like a formula is removed, as `csv_lines` writes it.
    Raises `InvalidInput` `invalid_csv`.
    """
    text = text.removeprefix(_BOM)
    delimiter = delimiter_of(text.partition("\n")[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if any(cells):
                lines.append((line, [_plain(each) for each in cells]))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(f"Line {line} is not CSV: {error}.", code="invalid_csv", param="csv") from None
    if not lines:
        raise InvalidInput("The CSV is empty; its first line names the columns.", code="invalid_csv", param="csv")
    (_, header), *rows = lines
    return Table(_checked(header), delimiter, rows)


def csv_lines(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV in the dialect of RFC 4180. None is an empty cell.

    A text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return gets an apostrophe in front, because a spreadsheet
    would run it as a formula. Numbers are written as they are.
    """
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows([_safe(cell) for cell in row] for row in rows)
    return out.getvalue()


def _safe(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(cell: str) -> bool:
    """Whether a cell begins like a formula, also behind apostrophes: then one of them was added."""
    return cell.lstrip("'").startswith(_FORMULA)


def delimiter_of(header: str) -> str:
    """The delimiter of a CSV text with this first line: the one that occurs most outside of quotes; the comma if none does."""
    unquoted = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=lambda each: (unquoted.count(each), each == ","))


def _checked(header: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in header)
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(
                f"The column {name[:64]!r} occurs twice in the header; rename one of them.",
                code="invalid_csv",
                param="csv",
            )
    return names
