"""What is left of an event whose customer was erased: its place and its kind, and nothing of what it said."""

import json

from loyalpro.events.stable_json import freeze
from loyalpro.kernel.clock import UnixMs, rfc3339


def tombstone(body: bytes, now: UnixMs) -> bytes:
    """The body with `data` gone and the time of that added."""
    return freeze({**json.loads(body), "data": None, "erased_at": rfc3339(now)})
