"""Bodies of events to test with: an example of each type, and bodies that were stored with earlier payloads."""

import gzip
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "unit"


def examples() -> dict[str, dict[str, Any]]:
    """`data` of one event of each type, with its fields in their order."""
    found: dict[str, dict[str, Any]] = json.loads((FOLDER / "event_examples.json").read_bytes())
    return found


def stored_bodies() -> list[bytes]:
    """Whole bodies, as they were frozen with earlier payloads."""
    return gzip.decompress((FOLDER / "stored_events.jsonl.gz").read_bytes()).splitlines()
