"""The pages of the program in a browser: a file from the disk to rows, and a rule from the form to its effect."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.chromium import Tab
from support.databases import Databases
from support.scenes import Scene
from support.server import Server

ROWS = "Number;E-mail;Name\nold-1;ann@example.com;Ann\nold-2;bob@;Bob\n"


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        yield running


def test_a_file_is_imported_and_a_rule_is_saved(tab: Tab, scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "members ÄÖ.csv"
    file.write_text(ROWS, "utf-8")
    page = tab.open("/imports")
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_selector("text=members ÄÖ.csv has 2 rows.")
    assert page.get_by_label("Your own id").input_value() == "Number"
    page.get_by_role("button", name="Try it").click()
    page.wait_for_selector("text=1 row can be imported")
    assert page.get_by_text("email: Send an e-mail address").is_visible()
    with page.expect_download() as found:
        page.get_by_role("link", name="Download the refused lines").click()
    assert "old-2,bob@,Bob,3," in Path(found.value.path()).read_text("utf-8")
    page.get_by_role("button", name="Import", exact=True).click()
    page.wait_for_selector("text=There already")
    imported = page.url.rpartition("/")[2]
    scene.server.until(f"/v1/imports/{imported}", lambda job: job["status"] == "done")
    page.wait_for_selector("text=Refused rows")
    assert [each["external_id"] for each in scene.server.get("/v1/customers")["data"]] == ["old-1"]

    page = tab.open("/rules")
    page.get_by_role("link", name="Edit the rule 1 point per 1.00 EUR").click()
    page.get_by_label("Points", exact=True).fill("3")
    page.get_by_role("button", name="Show the effect").click()
    assert page.get_by_text("3 points for each 1.00 EUR.").is_visible()
    page.get_by_role("button", name="Edit further").click()
    assert page.get_by_label("Points", exact=True).input_value() == "3"
    page.get_by_role("button", name="Show the effect").click()
    page.get_by_label("Why").fill("a try")
    page.get_by_role("button", name="Save").click()
    assert page.get_by_text("Version 2 of the program is in force.").is_visible()
