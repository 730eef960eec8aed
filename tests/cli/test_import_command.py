"""`loyalpro import`, with a real server: files of several requests, what is refused, and an import that is cut off."""

import csv
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from loyalpro.cli.api_client import ApiClient, ApiProblem
from loyalpro.cli.import_file import PART_ROWS, FileImport, parts
from loyalpro.cli.main import app
from loyalpro.loyalty.bulk.csv_text import read_csv
from support.receivers import Authority
from support.server import API_KEY, Server

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _no_log_lines() -> Iterator[None]:
    """The server runs in this process, and its log would mix with the output of the commands."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file) as running:
        yield running


@pytest.fixture
def run(server: Server) -> Run:
    """Runs the command."""

    def command(*arguments: object, code: int = 0) -> Result:
        where = {"LOYALPRO_SERVER": f"http://127.0.0.1:{server.port}", "LOYALPRO_API_KEY": API_KEY}
        result: Any = CliRunner().invoke(app, ["import", *map(str, arguments)], env=where)
        assert result.exit_code == code, (arguments, result.output, result.exception)
        found: Result = result
        return found

    return command


def test_a_file_of_several_requests(server: Server, run: Run, tmp_path: Path) -> None:
    people, sales, refused = tmp_path / "people.csv", tmp_path / "sales.csv", tmp_path / "refused.csv"
    people.write_text("external_id\nshop-1\nshop-2\n")
    assert run("customers", people).stdout == "2 rows imported, 0 were there already, 0 are refused\n"
    lines = [f'{n},shop-{1 + n % 2},{n}.50,"a note{chr(10)}of two lines"' for n in range(PART_ROWS + 10)]
    lines[7] = "7,nobody,1.00,x"
    lines[PART_ROWS + 3] = "5003,shop-1,1.005,x"
    sales.write_text("\n".join(["Receipt,Member,Total,Note", *lines]) + "\n")
    maps = ("external_id=Receipt", "customer_external_id=Member", "amount=Total", "metadata.note=Note")
    options = ("--amounts", "major", "--errors", refused, *[each for name in maps for each in ("--map", name)])
    trial = run("transactions", sales, *options, "--dry-run", code=1)
    assert trial.stdout == f"{PART_ROWS + 8:,} rows would be imported, 0 were there already, 2 are refused\n"
    assert server.get("/v1/transactions")["data"] == []
    done = run("transactions", sales, *options, code=1)
    assert done.stdout == f"{PART_ROWS + 8:,} rows imported, 0 were there already, 2 are refused\n"
    assert done.stderr == trial.stderr
    found = list(csv.DictReader(refused.read_text().splitlines()))
    numbered = [(each["line"], each["code"]) for each in found]
    assert numbered == [("16", "customer_not_found"), (str(2 + 2 * (PART_ROWS + 3) - 1), "invalid_amount")]
    again = run("transactions", sales, *options, code=1)
    assert again.stdout == f"0 rows imported, {PART_ROWS + 8:,} were there already, 2 are refused\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["people.csv", "refused.csv", "sales.csv"]


def test_an_import_that_was_cut_off_is_resumed(server: Server, run: Run, tmp_path: Path) -> None:
    """The connection ends after the first part. Rows without an external id show that no part is imported twice."""
    people = tmp_path / "people.csv"
    people.write_text("name\n" + "".join(f"customer {n}\n" for n in range(2 * PART_ROWS + 1)))
    client = _Failing(f"http://127.0.0.1:{server.port}", API_KEY)
    with pytest.raises(ApiProblem):
        FileImport(people, BODY, None, resume=False).run(client)
    client.close()
    run("customers", people, "--resume", "--dry-run", code=1)
    assert (
        run("customers", people, "--resume").stdout
        == f"{2 * PART_ROWS + 1:,} rows imported, 0 were there already, 0 are refused\n"
    )
    sql = "SELECT COUNT(*) FROM customers"
    assert server.run(server.application.runner.read(lambda unit: unit.connection.execute(sql))) == [
        (2 * PART_ROWS + 1,)
    ]


BODY = {"kind": "customers", "amounts": "minor", "earn": "rules"}


class _Failing(ApiClient):
    """A client whose connection ends after the second part was sent, before the response arrives."""

    sent = 0

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        answer = super().call(method, path, body, **headers)
        self.sent += method == "POST"
        if self.sent == 2:
            raise ApiProblem("the connection ended")
        return answer


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"external_id\n\xff\xfe\n", "not UTF-8"),
        (b'external_id\n"a\n', "Line 2 is not CSV"),
        (b"shop\na\n", "There is no field 'shop'"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(run: Run, tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes(content)
    assert words in run("customers", file, code=1).stderr


def test_a_mapping_without_a_column_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("a\nb\n")
    assert "has no =" in run("customers", file, "--map", "external_id", code=1).stderr


cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8).map(str.strip)


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=30), st.sampled_from([",", ";", "\t"]))
def test_the_parts_of_a_file_have_its_rows_and_lines(tmp_path: Path, rows: list[list[str]], delimiter: str) -> None:
    file = tmp_path / "rows.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, delimiter=delimiter).writerows([["first", "second"], *rows])
    whole = read_csv(file.read_bytes().decode())
    found = [(part.lines[line], cells) for part in parts(file) for line, cells in read_csv(part.text).rows]
    assert found == whole.rows
