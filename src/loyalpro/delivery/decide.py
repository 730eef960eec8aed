"""What follows from an attempt: pure functions from an outcome to the next state."""

import random
from datetime import UTC
from email.utils import parsedate_to_datetime

from loyalpro.delivery.attempt import OutcomeCode, Response
from loyalpro.delivery.ports import Attempt, Claimed, Settlement
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import MS_PER_S, UnixMs, unix_ms

_LONGEST_RETRY_AFTER_DIGITS = 9


def decide(
    claimed: Claimed, attempt: Attempt, *, now: UnixMs, schedule: RetrySchedule, chance: random.Random
) -> Settlement:
    """Succeeded, to be tried again at a time, or exhausted. `410 Gone` disables the endpoint; its deliveries wait."""
    delivery_id, endpoint_id = claimed.delivery_id, claimed.target.endpoint_id
    if attempt.outcome is OutcomeCode.SUCCEEDED:
        return Settlement(delivery_id, endpoint_id, DeliveryStatus.SUCCEEDED, now, attempt)
    due = schedule.next_attempt_at(
        attempts=attempt.number,
        first_attempt_at=claimed.first_attempt_at,
        now=now,
        retry_after_ms=retry_after_ms(attempt.response, now),
        chance=chance,
    )
    gone = attempt.outcome is OutcomeCode.GONE
    if due is None:
        return Settlement(delivery_id, endpoint_id, DeliveryStatus.EXHAUSTED, now, attempt, gone)
    return Settlement(delivery_id, endpoint_id, DeliveryStatus.PENDING, due, attempt, gone)


def close_unsent(claimed: Claimed, now: UnixMs) -> Settlement:
    """The window closed before this attempt could start: nothing is sent after it."""
    return Settlement(claimed.delivery_id, claimed.target.endpoint_id, DeliveryStatus.EXHAUSTED, now, None)


def retry_after_ms(response: Response | None, now: UnixMs) -> int | None:
    """The wait that a 429 or a 503 asks for, from seconds or an HTTP date; None when it asks for none we can read."""
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
