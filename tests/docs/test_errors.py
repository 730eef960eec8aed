"""docs/reference/errors.md lists exactly the error codes of the source, with their status."""

import re
from pathlib import Path

from docs.error_codes import class_statuses, error_codes, raised_statuses
from docs.pages import REFERENCE, ROOT, first_cells

PAGE = REFERENCE / "errors.md"
SOURCE = ROOT / "src"


def documented() -> dict[str, str]:
    return dict(re.findall(r"^\| `([^`]+)` \| (\S+) \|", PAGE.read_text("utf-8"), re.MULTILINE))


def test_every_code_is_documented_and_no_other() -> None:
    assert sorted(first_cells(PAGE)) == sorted(error_codes(SOURCE))


def test_every_documented_status_is_that_of_the_response() -> None:
    shown = documented()
    not_over_http = {code for code, status in shown.items() if status == "-"}
    known = class_statuses() | raised_statuses(SOURCE)
    wrong = {code: status for code, status in known.items() if shown[code] != str(status)}
    assert set(wrong) <= not_over_http
    assert len(known) > 30


def test_codes_are_found_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        "class A:\n    code = 'of_class'\n"
        "def make(code, reason): ...\n"
        "make('by_position', 'x')\n"
        "raise B('x', code='by_name')\n"
        "raise B('x', code='one' if x else 'other')\n"
        "code = {'k': 'in_table'}.get(x, 'default')\n"
        "def f():\n    table = {1: ('first', 'x')}\n    code, detail = table.get(x, ('last', 'y'))\n"
        "async def g():\n    return problem(500, 'of_problem', 'detail')\n"
        "text = 'not_a_code'\n"
    )
    expected = "of_class by_position by_name one other in_table default first last of_problem"
    assert error_codes(tmp_path) == set(expected.split())
