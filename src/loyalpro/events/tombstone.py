"""What remains of an event whose customer was erased: its envelope, without data."""

import json

from loyalpro.events.stable_json import freeze
from loyalpro.kernel.clock import UnixMs, rfc3339


def tombstone(body: bytes, now: UnixMs) -> bytes:
    """The body with `data` null and `erased_at` added."""
    return freeze({**json.loads(body), "data": None, "erased_at": rfc3339(now)})
