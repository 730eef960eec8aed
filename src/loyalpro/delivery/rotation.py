"""Which of an endpoint's secrets sign, and until when: pure functions of the secrets that are valid now, newest first.

Each of them signs `webhook-signature`. The header that can carry one signature stays on the newest one that is promoted;
a secret that waits is promoted when the receiver shows that it knows it, when its owner says so, or when it is the last.
A receiver that refuses is shown the others, whichever they are: it may hold any one of them, and gets everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.errors import Conflict

MOST_SECRETS: Final = 5
DEFAULT_OVERLAP_S: Final = 24 * 3600
LONGEST_OVERLAP_S: Final = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret of an endpoint, without what is secret about it. The newest one never expires."""

    version: int
    expires_at: UnixMs | None
    promoted_at: UnixMs | None


def is_waiting(secrets: Sequence[Secret]) -> bool:
    """Whether the newest one waits for the receiver while an older one still signs alone."""
    return len(secrets) > 1 and secrets[0].promoted_at is None


def others(count: int, primary: int, attempt: int) -> tuple[int, ...]:
    """The secrets that a receiver is shown when it refuses the primary one: their indices, newest first.

    Each attempt begins with another one. So a receiver that takes its time to refuse has seen all of them in the end.
    """
    order = [index for index in range(count) if index != primary]
    turn = (attempt - 1) % max(1, len(order))
    return (*order[turn:], *order[:turn])


def previous_expires_at(secrets: Sequence[Secret]) -> UnixMs | None:
    """When the last of the older ones ends; None when there is none."""
    return max((each.expires_at for each in secrets[1:] if each.expires_at is not None), default=None)


def end_of_overlap(now: UnixMs, overlap_s: int) -> UnixMs:
    """From when on the older ones are not valid any more."""
    return now + overlap_s * MS_PER_S


def check_room(secrets: Sequence[Secret], overlap_s: int) -> None:
    """Refuse one secret more than a request's headers have room for. An overlap of 0 revokes the others first."""
    if overlap_s and len(secrets) >= MOST_SECRETS:
        raise Conflict(
            f"{MOST_SECRETS} secrets of this endpoint are valid already; wait until one expires, or send "
            '{"overlap_seconds": 0} to revoke them now.',
            code="too_many_secrets",
        )
