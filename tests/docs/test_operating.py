"""docs/operating.md names every metric, with its type and labels."""

import re

from docs.pages import ROOT
from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.web.telemetry import Telemetry

PAGE = ROOT / "docs" / "operating.md"


def test_every_metric_is_listed_with_its_type_and_labels() -> None:
    shown = re.findall(r"^\| `(loyalpro_\w+)` \| (\w+) \| ([^|]*)\|", PAGE.read_text("utf-8"), re.MULTILINE)
    listed = {name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels in shown}
    telemetry = Telemetry()
    telemetry.attempted(OutcomeCode.SUCCEEDED, 1)
    telemetry.requested("GET", "/", 200, 0.1)
    there = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in telemetry.registry.collect()
    }
    assert listed == there
