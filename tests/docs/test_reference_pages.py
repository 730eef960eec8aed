"""The generated pages follow the code, and are complete."""

import subprocess
import sys
from pathlib import Path

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = (ROOT / "docs" / "reference" / "environment.md").read_text("utf-8")


def test_the_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_setting_has_a_section_and_a_meaning() -> None:
    headings = [line for line in ENVIRONMENT.splitlines() if line.startswith("## ")]
    assert headings == [f"## `LOYALPRO_{name.upper()}`" for name in Settings.model_fields]
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_event_type_has_a_section_with_every_field() -> None:
    page = (ROOT / "docs" / "reference" / "events.md").read_text("utf-8")
    sections = dict(part.split("`\n", 1) for part in page.split("\n## `")[1:])
    assert list(sections) == list(EVENT_TYPES)
    for name, event_type in EVENT_TYPES.items():
        missing = [field for field in event_type.fields if f"| `{field}` |" not in sections[name]]
        assert missing == []
