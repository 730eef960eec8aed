"""docs/operating.md lists every metric, with its type and labels, and every event of the log."""

import re
import subprocess
from pathlib import Path

from docs.pages import ROOT
from loyalpro.app import Application
from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.jobs.periodic_job import JobRun
from loyalpro.settings import Settings
from support.debian import program

PAGE = ROOT / "docs" / "operating.md"


def test_every_metric_is_listed_with_its_type_and_labels(tmp_path: Path) -> None:
    shown = re.findall(r"^\| (`loyalpro_[^|]+) \| (\w+) \| ([^|]*)\|", PAGE.read_text("utf-8"), re.MULTILINE)
    listed = {
        name: (kind, set(re.findall(r"\w+", labels)))
        for names, kind, labels in shown
        for name in re.findall(r"`(\w+)`", names)
    }
    url = f"sqlite:///{tmp_path / 'loyalpro.db'}"
    telemetry = Application(Settings.model_validate({"database_url": url})).telemetry
    telemetry.attempted(OutcomeCode.SUCCEEDED, 1)
    telemetry.database_wrote("ingest", 0.1)
    telemetry.database_failed("disk_full")
    telemetry.deliveries_counted({"pending": 1})
    telemetry.endpoints_counted({"healthy": 1})
    telemetry.requested("GET", "/", 200, 0.1)
    telemetry.job_ran(JobRun("windows", "host:1", started_at=1, finished_at=2, pieces=1, items=1))
    registered = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in telemetry.registry.collect()
        if not family.name.startswith("process_")
    }
    assert listed == registered


def test_every_event_of_the_log_is_listed() -> None:
    table = PAGE.read_text("utf-8").partition("## Logs")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`([a-z_]+)`", table))
    logged = set()
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text("utf-8")
        logged |= set(re.findall(r"(?:log|get_logger\([^)]*\))\.(?:info|warning|error|exception)\(\s*\"(\w+)\"", text))
    missing = {event for event in logged - listed if not event.endswith("_failed")}
    assert missing == set()
    assert {"request", "few_open_files", "settle_crashed", "results_dropped"} <= logged


def test_the_unit_of_systemd_is_hardened(tmp_path: Path) -> None:
    """Exposure 2.0 of 10 at most, by the rating of systemd; the threshold is ten times that."""
    [unit] = re.findall(r"```ini\n(\[Unit\].*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    file = tmp_path / "loyalpro-hardened.service"
    file.write_text(unit)
    analyze = program("systemd-analyze", "systemd")
    rated = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", "--no-pager", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout + rated.stderr
    shown = re.search(r"rates this unit ([\d.]+)", PAGE.read_text("utf-8"))
    assert shown is not None
    assert f"for {file.name}: {shown[1]} OK" in rated.stdout
