"""`loyalpro serve` on a clock that is ahead of the machine's: `python -m bench.clock_ahead 3600000` for an hour.

What happens at a later time then happens within the run, and no row in the database has to be changed for it.
"""

import sys

from loyalpro.cli.server import serve
from loyalpro.kernel.clock import SystemClock, UnixMs


class ClockAhead(SystemClock):
    """The clock of the machine, with so many milliseconds added to the wall time."""

    def __init__(self, ahead_ms: int) -> None:
        self._ahead_ms = ahead_ms

    def now_ms(self) -> UnixMs:
        """The later wall time in Unix milliseconds."""
        return super().now_ms() + self._ahead_ms


if __name__ == "__main__":
    serve(None, ClockAhead(int(sys.argv[1])))
