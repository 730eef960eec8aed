"""The rules of an endpoint's signing secrets: which one waits, when they end, and how many there may be. Pure functions.

Every secret that is valid signs `webhook-signature`. The newest secret that is promoted signs the header with one
signature. A new secret waits until the receiver accepts it, its owner promotes it, or it is the last one left. Lists of secrets
hold the valid ones, newest first.
"""

from collections.abc import Sequence
from typing import Final

from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.errors import Conflict
from loyalpro.webhooks.entities import Secret

SECRET_BYTES: Final = 32
FIRST_VERSION: Final = 1
MOST_SECRETS: Final = 5
DEFAULT_OVERLAP_S: Final = 24 * 3600
LONGEST_OVERLAP_S: Final = 7 * 24 * 3600


def is_waiting(secrets: Sequence[Secret]) -> bool:
    """Whether the newest secret waits for the receiver while an older one signs the header with one signature."""
    return len(secrets) > 1 and secrets[0].promoted_at is None


def previous_expires_at(secrets: Sequence[Secret]) -> UnixMs | None:
    """When the last of the older secrets ends; None when there is none."""
    return max((each.expires_at for each in secrets[1:] if each.expires_at is not None), default=None)


def rotation_ends_at(secrets: Sequence[Secret]) -> UnixMs | None:
    """While the newest secret waits for the receiver, when the overlap ends; None otherwise."""
    return previous_expires_at(secrets) if is_waiting(secrets) else None


def end_of_overlap(now: UnixMs, overlap_s: int) -> UnixMs:
    """The time from which the older secrets are no longer valid."""
    return now + overlap_s * MS_PER_S


def require_rotation(secrets: Sequence[Secret]) -> None:
    """Raise `Conflict` unless a rotation is under way. What finishes a rotation must never begin one."""
    if not is_waiting(secrets):
        raise Conflict(
            "No rotation of this endpoint is under way: the newest secret signs already. Leave promote out to make a new one.",
            code="no_rotation",
            param="promote",
        )


def require_capacity(secrets: Sequence[Secret], overlap_s: int) -> None:
    """Raise `Conflict` if another secret were more than the headers have room for. An overlap of 0 revokes the others first."""
    if overlap_s and len(secrets) >= MOST_SECRETS:
        raise Conflict(
            f"{MOST_SECRETS} secrets of this endpoint are valid already; wait until one expires, or send "
            '{"overlap_seconds": 0} to revoke them now.',
            code="too_many_secrets",
        )
