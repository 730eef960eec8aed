"""Which of the secrets of an endpoint sign, and until when: pure functions of the secrets that are valid now, newest first.

Each valid secret signs `webhook-signature`. The header that carries only one signature is signed by the primary secret: the
newest one that is promoted. A secret is promoted when the receiver accepts its signature, by its owner, or when it is the
only one. When a receiver refuses a request, it is sent again with each other secret: the receiver may know any one of them.
"""

from collections.abc import Sequence

from loyalpro.kernel.clock import UnixMs


def primary_secret(promoted_at: Sequence[UnixMs | None]) -> int:
    """Return the index of the primary secret: the newest one that is promoted, or else the oldest one.

    `promoted_at`: when each valid secret was promoted, newest first. The result is not 0 while a rotation waits for the
    receiver to switch to a newer secret.
    """
    return next((index for index, at in enumerate(promoted_at) if at is not None), len(promoted_at) - 1)


def others(count: int, primary: int, attempt: int) -> tuple[int, ...]:
    """Return the indices of the secrets to try after the receiver has refused the primary one, newest first.

    Each attempt begins with another secret: a receiver that is slow to refuse leaves no time to try all of them in one
    attempt, and sees every one after a few attempts.
    """
    indices = [index for index in range(count) if index != primary]
    first = (attempt - 1) % max(1, len(indices))
    return (*indices[first:], *indices[:first])
