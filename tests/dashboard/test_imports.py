"""Program > Imports and Exports, through forms: from a file to rows, with every error before anything is written."""

import csv
import io
import re
from collections.abc import Iterator

import pytest

from loyalpro.kernel.errors import MalformedRequest, TooLarge
from loyalpro.web.dashboard.multipart import SentFile, parse_multipart
from support.browser import Browser
from support.databases import Databases
from support.members import new_member
from support.server import Server

CUSTOMERS = (
    "\ufeffNumber;E-mail;Name\r\n"
    "old-1;ann@example.com;Ann\r\n"
    'old-2;bob@;"=1+1;\nBob"\r\n'
    "old-3;cy@example.com;Cy\r\n"
).encode()  # fmt: skip
CHOSEN = {
    "column.external_id": "Number", "column.email": "E-mail", "column.name": "Name",
    "kind": "customers", "earn": "rules", "amounts": "minor",
}  # fmt: skip


@pytest.fixture(params=("sqlite",))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture
def support(server: Server) -> Browser:
    return new_member(server, "support").browser


def uploaded(browser: Browser, content: bytes = CUSTOMERS, kind: str = "customers") -> str:
    """The path of the columns of a file."""
    browser.open("/imports")
    browser.upload("/imports", "members.csv", content, kind=kind)
    assert browser.status == 200, browser.text
    assert browser.path.startswith("/imports/files/job_"), browser.path
    return browser.path


def ended(server: Server, browser: Browser) -> str:
    """The path of the import that the browser looks at, once it is over."""
    import_id = browser.path.rpartition("/")[2]
    server.until(f"/v1/imports/{import_id}", lambda found: found["status"] == "done")
    path = browser.path
    browser.open(path)
    return path


def customers(server: Server) -> list[str]:
    return sorted(each["external_id"] for each in server.get("/v1/customers")["data"])


def test_a_file_is_mapped_tried_imported_and_its_refused_lines_come_back(server: Server, support: Browser) -> None:
    path = uploaded(support)
    assert "members.csv has 3 rows." in support.text
    for field, column in (("external_id", "Number"), ("email", "E-mail"), ("name", "Name")):
        [options] = re.findall(rf'name="column.{field}"[^>]*>(.*?)</select>', support.text, re.DOTALL)
        assert f'<option value="{column}" selected' in options, field
    support.send(path, fields=CHOSEN)
    trial = ended(server, support)
    assert "2 rows can be imported" in support.text
    assert "Nothing is written yet." in support.text
    assert customers(server) == []
    [line] = re.findall(r'<td class="dim">(\d+)</td><td>email', support.text)
    assert line == "3"
    assert support.request("GET", f"{trial}/refused.csv") == 200
    assert support.headers["content-disposition"].startswith("attachment")
    header, row = list(csv.reader(io.StringIO(support.text)))
    assert header == ["Number", "E-mail", "Name", "line", "error"]
    assert row[:4] == ["old-2", "bob@", "'=1+1;\nBob", "3"]
    assert row[4].startswith("email")
    support.open(trial)
    support.send(f"{trial}/run")
    ended(server, support)
    assert "Imported" in support.text
    assert customers(server) == ["old-1", "old-3"]
    assert "can be imported" not in support.text
    support.send(f"{support.path}/run")
    assert support.status in (403, 409)
    actions = [each["action"] for each in server.get("/v1/audit_log")["data"]]
    assert actions.count("import.created") == 2
    assert actions.count("upload.created") == 1


def test_purchases_are_written_as_the_file_has_them(server: Server, support: Browser) -> None:
    server.post("/v1/customers", {"external_id": "shop-77"})
    path = uploaded(support, b"Order,Customer,Total,Points\no-1,shop-77,56.00,7\n", "transactions")
    fields = {
        "column.external_id": "Order", "column.customer_external_id": "Customer", "column.amount": "Total",
        "column.points": "Points", "kind": "transactions", "earn": "given", "amounts": "major",
    }  # fmt: skip
    support.open(f"{path}?kind=transactions")
    support.send(path, fields=fields)
    trial = ended(server, support)
    support.send(f"{trial}/run")
    ended(server, support)
    [bought] = server.get("/v1/transactions")["data"]
    assert (bought["external_id"], bought["amount"], bought["points_earned"]) == ("o-1", 5_600, 7)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Choose a file."),
        ("Name\nJörg\n".encode("latin-1"), "The file is not UTF-8."),
        (b"Name\n", "The file has a header, and no rows."),
        (b"Name,Name\na,b\n", "occurs twice in the header"),
        (b'Name\n"a\n', "is not CSV"),
        (b"Name\n" + b"x" * 1024 * 1024, "A file may have 1 MB."),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_at_its_field(support: Browser, content: bytes, words: str) -> None:
    support.open("/imports")
    support.upload("/imports", "f.csv", content, kind="balances")
    assert support.status == 422
    [error] = re.findall(r'id="file-error">(.*?)</p>', support.text, re.DOTALL)
    assert words in re.sub(r"<[^>]+>", "", error)
    assert '<option value="balances" selected' in support.text


def test_a_file_that_is_too_large_by_far_is_not_even_read(support: Browser) -> None:
    support.open("/imports")
    support.upload("/imports", "f.csv", b"x" * 1_400_000)
    assert support.status == 413


def test_columns_that_are_not_chosen_or_not_there_are_refused(support: Browser) -> None:
    path = uploaded(support)
    support.send(path, fields={"kind": "customers", "earn": "rules", "amounts": "minor"})
    assert "Choose a column for at least one field." in support.text
    support.send(path, fields=CHOSEN | {"column.email": "Elsewhere"})
    assert support.status == 422
    assert "Elsewhere" in support.text


def test_nobody_else_reads_a_file(server: Server, support: Browser) -> None:
    path = uploaded(support)
    viewer = new_member(server, "viewer").browser
    for address in (path, path.replace("/files", "")):
        viewer.open(address)
        assert viewer.status in (403, 404)
    support.open(path.replace("/files", ""))
    assert support.status == 404, "a file is no import"
    support.open("/imports/files/job_nothing")
    assert support.status == 404


def test_an_export_needs_a_fresh_proof_and_each_download_is_audited(server: Server) -> None:
    server.post("/v1/customers", {"external_id": "c-1", "name": "=cmd()"})
    owner = new_member(server, "owner").browser
    owner.open("/exports")
    owner.send("/exports", kind="customers", format="csv")
    [job] = server.get("/v1/exports")["data"]
    server.until(f"/v1/exports/{job['id']}", lambda found: found["status"] == "done")
    owner.open("/exports")
    assert f"/exports/{job['id']}/file" in owner.text
    assert owner.request("GET", f"/exports/{job['id']}/file") == 200
    assert "'=cmd()" in owner.text
    assert owner.headers["content-disposition"].startswith('attachment; filename="customers-')
    [taken] = [each for each in server.get("/v1/audit_log")["data"] if each["action"] == "export.downloaded"]
    assert taken["actor"].startswith("person:")
    assert taken["object_id"] == job["id"]


# -- forms with a file ---------------------------------------------------------------------------------------------------


def part(disposition: str, content: bytes) -> bytes:
    return b"--edge\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


TYPE = "multipart/form-data; boundary=edge"
END = b"--edge--\r\n"


def test_fields_and_files_are_told_apart() -> None:
    body = (
        part('form-data; name="csrf"', b"c")
        + part('form-data; name="key"', b"k")
        + part('form-data; name="note"', "Jörg\r\n".encode())
        + part('form-data; name="file"; filename="a.csv"', b"\xff\r\n--edg\r\n\r\n")
        + END
    )
    form, files = parse_multipart(TYPE, body)
    assert (form.csrf, form.key, form.raw("note")) == ("c", "k", "Jörg\r\n")
    assert files == {"file": SentFile("a.csv", b"\xff\r\n--edg\r\n\r\n")}
    assert parse_multipart('multipart/form-data; boundary="edge"', body)[0].fields == form.fields


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", part('form-data; name="a"', b"") + END),
        (TYPE, b""),
        (TYPE, part('form-data; name="a"', b"")),
        (TYPE, b"before\r\n" + part('form-data; name="a"', b"") + END),
        (TYPE, part("form-data", b"x") + END),
        (TYPE, b'--edge\r\nContent-Disposition: form-data; name="a"\r\n' + END),
        (TYPE, part('form-data; name="a"', b"\xff") + END),
    ],
)
def test_a_body_that_is_no_such_form_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_multipart(content_type, body)


def test_a_form_has_a_few_parts() -> None:
    with pytest.raises(TooLarge):
        parse_multipart(TYPE, part('form-data; name="a"', b"") * 21 + END)
