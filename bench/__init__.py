"""Measurements: each beside a bare libcurl loop to the same receiver, or beside itself without the load, in the same run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))  # a throwaway PostgreSQL
