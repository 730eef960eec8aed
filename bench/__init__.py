"""Measurements, each compared with a bare libcurl loop to the same receiver, or with itself without the load, in one run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))  # a throwaway PostgreSQL
