"""Which of the secrets of an endpoint sign, and until when: pure functions of the secrets that are valid now, newest first.

Each valid secret signs `webhook-signature`. The header that carries only one signature is signed by the primary secret: the
newest one that is promoted. A secret is promoted when the receiver accepts its signature, by its owner, or when it is the
only one. When a receiver refuses a request, it is sent again with each other secret: the receiver may know any one of them.
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
    """One secret of an endpoint, without its value. The newest one never expires."""

    version: int
    expires_at: UnixMs | None
    promoted_at: UnixMs | None


def primary_secret(promoted_at: Sequence[UnixMs | None]) -> int:
    """Return the index of the primary secret: the newest one that is promoted, or else the oldest one.

    `promoted_at`: when each valid secret was promoted, newest first. The result is not 0 while a rotation waits for the
    receiver to switch to a newer secret.
    """
    return next((index for index, at in enumerate(promoted_at) if at is not None), len(promoted_at) - 1)


def is_waiting(secrets: Sequence[Secret]) -> bool:
    """Return whether the newest secret waits for the receiver while an older one is the primary secret."""
    return primary_secret([each.promoted_at for each in secrets]) > 0


def others(count: int, primary: int, attempt: int) -> tuple[int, ...]:
    """Return the indices of the secrets to try after the receiver has refused the primary one, newest first.

    Each attempt begins with another secret: a receiver that is slow to refuse leaves no time to try all of them in one
    attempt, and sees every one after a few attempts.
    """
    indices = [index for index in range(count) if index != primary]
    first = (attempt - 1) % max(1, len(indices))
    return (*indices[first:], *indices[:first])


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
