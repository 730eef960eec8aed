"""Pure functions from the outcome of an attempt to the next state of its delivery."""

import random
from datetime import UTC
from email.utils import parsedate_to_datetime

from loyalpro.delivery.attempt import OutcomeCode, Response
from loyalpro.delivery.claims import Claimed
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.settlement import Attempt, SentRequest, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import MS_PER_S, UnixMs, unix_ms

_LONGEST_RETRY_AFTER_DIGITS = 9


def decide(
    claimed: Claimed,
    attempt: Attempt,
    *,
    now: UnixMs,
    schedule: RetrySchedule,
    rng: random.Random,
    secret: int | None = None,
) -> Settlement:
    """Return the settlement: succeeded, pending until a retry, or exhausted. A manual attempt that fails restores the state.

    `secret`: the index of the secret that the receiver accepted after it had refused the primary one.
    """
    if attempt.outcome is OutcomeCode.SUCCEEDED:
        return Settlement(claimed, DeliveryStatus.SUCCEEDED, now, attempt, promoted=_promoted(claimed, secret))
    gone = attempt.outcome is OutcomeCode.GONE
    hold_ms = retry_after_ms(attempt.response, now)
    if claimed.fallback is not None:
        before = claimed.fallback
        return Settlement(
            claimed, before.status, before.due_at or now, attempt, scheduled=False, gone=gone, hold_ms=hold_ms
        )
    due = schedule.next_attempt_at(
        attempts=claimed.scheduled_attempts,
        first_attempt_at=claimed.first_attempt_at,
        started_at=attempt.started_at,
        now=now,
        retry_after_ms=hold_ms,
        rng=rng,
    )
    status = DeliveryStatus.EXHAUSTED if due is None else DeliveryStatus.PENDING
    return Settlement(claimed, status, due or now, attempt, gone=gone, hold_ms=hold_ms)


def close_unsent(claimed: Claimed, now: UnixMs) -> Settlement:
    """Return the settlement of a delivery whose retry window closed before the attempt started: nothing may be sent now."""
    return Settlement(claimed, DeliveryStatus.EXHAUSTED, now, None)


def refuses_signature(request: SentRequest) -> bool:
    """Return whether the status may mean that the receiver knows another secret than the one that signed."""
    return request.response is not None and request.response.status in (400, 401, 403)


def _promoted(claimed: Claimed, secret: int | None) -> int | None:
    """Return the version of the accepted secret if it is newer than the primary one; an older one is not promoted."""
    if secret is None or secret > claimed.target.primary:
        return None
    return claimed.target.versions[secret]


def retry_after_ms(response: Response | None, now: UnixMs) -> int | None:
    """Return the pause that a 429 or a 503 asks for, in seconds or as an HTTP date; None without a readable one."""
    if response is None or response.status not in (429, 503):
        return None
    text = next((value.strip() for name, value in response.headers if name.lower() == "retry-after"), "")
    if text.isascii() and text.isdigit():
        return int(text[:_LONGEST_RETRY_AFTER_DIGITS]) * MS_PER_S
    try:
        moment = parsedate_to_datetime(text)
        return max(0, unix_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
