"""The alert rules: promtool accepts them, each fires when it should and not before, and each metric in them exists."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from docs.pages import ROOT
from loyalpro.cli.main import app
from support.databases import Databases
from support.promtool import promtool
from support.receivers import Authority, RawServer, good
from support.server import Server

RULES = ROOT / "src" / "loyalpro" / "alerts" / "loyalpro.yml"
TESTS = Path(__file__).with_name("rules_test.yml")
_RULE = re.compile(r"- alert: (\w+)\n(.*?)(?=\n\n|\Z)", re.DOTALL)
_EXPRESSION = re.compile(r"expr: (?:>-\n(?: {10}.*\n)+|.*\n)")
_SELECTOR = re.compile(r"(loyalpro_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)=~?\"([^\"]*)\"")
ALERTS = dict(_RULE.findall(RULES.read_text("utf-8")))


def check(command: str, file: Path) -> tuple[int, str]:
    done = subprocess.run(
        [promtool(), *command.split(), str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_promtool_accepts_the_rules() -> None:
    status, output = check("check rules", RULES)
    assert (status, f"{len(ALERTS)} rules found" in output) == (0, True), output


def test_each_alert_fires_when_it_should_and_alone_and_none_when_all_is_well() -> None:
    assert check("test rules", TESTS)[0] == 0, check("test rules", TESTS)[1]


@pytest.mark.parametrize("expression", ["vector(1)", "vector(0) > 1"])
@pytest.mark.parametrize("alert", ALERTS)
def test_the_tests_notice_an_alert_that_fires_always_or_never(tmp_path: Path, alert: str, expression: str) -> None:
    body = ALERTS[alert]
    wrong = _EXPRESSION.sub(f"expr: {expression}\n", body, count=1)
    assert wrong != body
    (tmp_path / "rules.yml").write_text(RULES.read_text("utf-8").replace(body, wrong), "utf-8")
    tests = TESTS.read_text("utf-8").replace("../../src/loyalpro/alerts/loyalpro.yml", "rules.yml")
    (tmp_path / "tests.yml").write_text(tests, "utf-8")
    assert check("test rules", tmp_path / "tests.yml")[0] == 1


def test_each_alert_has_a_severity_a_summary_and_says_what_to_do() -> None:
    for alert, body in ALERTS.items():
        assert re.search(r"labels: \{severity: (critical|warning|info)\}", body), alert
        assert "summary: " in body, alert
        assert "description: " in body, alert


def test_each_metric_of_the_rules_exists_in_a_scrape_with_its_labels(
    databases: Databases, authority: Authority
) -> None:
    with (
        RawServer(good, authority.context()) as receiver,
        Server(databases.fresh("sqlite"), authority.ca_file, sweep_interval=0.1) as server,
    ):
        server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
        server.post("/v1/customers", {})
        receiver.wait_for(1)
        while "loyalpro_endpoints{" not in (text := server.call("GET", "/metrics").raw.decode()):
            pass
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    used = _SELECTOR.findall("\n".join(_EXPRESSION.findall("\n".join(ALERTS.values()))))
    assert len(used) > len(ALERTS)
    for name, matchers in used:
        found = [sample.labels for sample in samples if sample.name == name]
        assert found, name
        for label, values in _MATCHER.findall(matchers):
            known = {labels[label] for labels in found}
            assert (label == "status" and name.startswith("loyalpro_http")) or set(values.split("|")) <= known, (
                name,
                label,
            )


def test_the_command_prints_the_rules() -> None:
    result = CliRunner().invoke(app, ["alerts"])
    assert (result.exit_code, result.stdout) == (0, RULES.read_text("utf-8"))


def test_the_wheel_contains_the_rules(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=100,
    )
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("loyalpro/alerts/loyalpro.yml") == RULES.read_bytes()
