"""The log lines of an outage of the database: few, however many operations fail in it."""

from typing import Final

import structlog

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import StoreError

LINE_EVERY_S: Final = 10.0
_FORGOTTEN_AFTER_S: Final = 5.0
"""Operations of one kind that have not been tried for so long do not keep an outage from being over."""


class OutageLog:
    """Logs when an outage begins, every `LINE_EVERY_S` seconds while operations fail, and when it is over.

    It is over when an operation succeeds and those of no other kind have failed in the last seconds. An outage that begins
    within `LINE_EVERY_S` of the last line has no line until then: a server that is back often ends connections once more.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._log = structlog.get_logger("storage")
        self._failed_at_s: dict[str, float] = {}
        self._began_s = 0.0
        self._logged_at_s: float | None = None
        self._announced = False
        self._unlogged = 0

    def failed(self, kind: str, error: StoreError) -> None:
        """An operation of this kind has failed."""
        now_s = self._clock.monotonic_s()
        if not self._failed_at_s:
            self._began_s = now_s
        self._failed_at_s[kind] = now_s
        self._unlogged += 1
        if self._logged_at_s is None or now_s - self._logged_at_s >= LINE_EVERY_S:
            self._log.error(
                "database_unavailable",
                code=error.code,
                reason=error.detail,
                outage_s=round(now_s - self._began_s, 1),
                failed=self._unlogged,
            )
            self._logged_at_s, self._announced, self._unlogged = now_s, True, 0

    def succeeded(self, kind: str) -> None:
        """An operation of this kind has succeeded."""
        if not self._failed_at_s:
            return
        now_s = self._clock.monotonic_s()
        self._failed_at_s.pop(kind, None)
        if any(now_s - at_s < _FORGOTTEN_AFTER_S for at_s in self._failed_at_s.values()):
            return
        self._failed_at_s.clear()
        if self._announced:
            self._log.info("database_available", outage_s=round(now_s - self._began_s, 1))
            self._logged_at_s, self._announced = now_s, False
