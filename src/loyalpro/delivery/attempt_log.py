"""The log lines of failed attempts, at a rate that stays readable when many endpoints fail at once."""

from collections import Counter
from typing import Any, Final

import structlog

from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import Clock, rfc3339

WINDOW_S: Final = 10.0
LINES_PER_ENDPOINT: Final = 5
LINES: Final = 100
SUMMARIES: Final = 20


class AttemptLog:
    """Logs each failed attempt once its outcome is durable. Nothing of the request or the response is logged.

    Within `WINDOW_S` seconds, `LINES_PER_ENDPOINT` failures of an endpoint have a line of their own, and `LINES` of all
    endpoints. The others are counted; at the end of the window a line says how many were left out at which endpoint, one for
    each of the `SUMMARIES` endpoints with the most of them and one for all others together.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._log = structlog.get_logger("delivery")
        self._began_s = clock.monotonic_s()
        self._logged: Counter[str] = Counter()
        self._left_out: dict[str, Counter[str]] = {}

    def settled(self, settlement: Settlement) -> None:
        """Log or count the attempt of a settlement that is durable, if it failed."""
        attempt = settlement.attempt
        if attempt is None or settlement.succeeded:
            return
        self.flush()
        endpoint_id = settlement.claimed.target.endpoint_id
        if self._logged[endpoint_id] < LINES_PER_ENDPOINT and self._logged.total() < LINES:
            self._logged[endpoint_id] += 1
            self._log_attempt(settlement, attempt)
        else:
            self._left_out.setdefault(endpoint_id, Counter())[attempt.outcome.value] += 1

    def flush(self) -> None:
        """If the window is over, log what was left out in it, and begin another one."""
        if self._clock.monotonic_s() - self._began_s >= WINDOW_S:
            self.end_window()

    def end_window(self) -> None:
        """Log what was left out since the window began, and begin another one."""
        left_out, self._left_out = self._left_out, {}
        self._began_s = self._clock.monotonic_s()
        self._logged.clear()
        most = sorted(left_out, key=lambda each: (-left_out[each].total(), each))
        for endpoint_id in most[:SUMMARIES]:
            counts = left_out[endpoint_id]
            self._log.info(
                "attempts_left_out",
                endpoint_id=endpoint_id,
                attempts=counts.total(),
                outcomes=dict(counts.most_common()),
            )
        if rest := most[SUMMARIES:]:
            attempts = sum(left_out[each].total() for each in rest)
            self._log.info("attempts_left_out", endpoints=len(rest), attempts=attempts)

    def _log_attempt(self, settlement: Settlement, attempt: Attempt) -> None:
        claimed, waits = settlement.claimed, settlement.status is DeliveryStatus.PENDING
        facts: dict[str, Any] = {
            "delivery_id": claimed.delivery_id,
            "event_id": claimed.event_id,
            "endpoint_id": claimed.target.endpoint_id,
            "attempt": attempt.number,
            "outcome": attempt.outcome.value,
            "http_status": attempt.response.status if attempt.response else None,
            "ms": round(attempt.timings.total_ms, 2) if attempt.timings else None,
            "status": settlement.status.value,
            "next_at": rfc3339(settlement.due_at) if waits and settlement.due_at is not None else None,
            "request_id": claimed.request_id,
            "traceparent": claimed.traceparent,
        }
        self._log.info("attempt_failed", **{name: value for name, value in facts.items() if value is not None})
