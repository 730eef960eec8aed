"""The time zones to choose from."""

from typing import Final
from zoneinfo import available_timezones

ZONES: Final = [
    (each, each.replace("_", " ")) for each in sorted(available_timezones()) if each == "UTC" or "/" in each
]
"""The name of each, and how it is shown."""
