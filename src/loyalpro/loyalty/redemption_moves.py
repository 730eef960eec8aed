"""The states of a redemption, and the moves between them.

    reserve -> reserved --capture--> redeemed --reverse--> reversed
                  |--cancel--> canceled
                  `--expire--> expired
    redeem  -> redeemed

A part of the points may come back before the rest: the redemption stays redeemed until all of them did. Every move is
made once, and repeating it changes nothing.
"""

from collections.abc import Mapping
from typing import Final, Literal

from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import Conflict
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import Redemption, RedemptionStatus

Move = Literal["capture", "cancel", "expire", "reverse"]


@record
class Transition:
    """The status that a move leaves, and the one that it leads to."""

    leaves: RedemptionStatus
    becomes: RedemptionStatus


TRANSITIONS: Final[Mapping[Move, Transition]] = {
    "capture": Transition("reserved", "redeemed"),
    "cancel": Transition("reserved", "canceled"),
    "expire": Transition("reserved", "expired"),
    "reverse": Transition("redeemed", "reversed"),
}


def is_overdue(redemption: Redemption, now: UnixMs) -> bool:
    """Whether it is a reservation whose time has passed."""
    until = redemption.reserved_until
    return redemption.status == "reserved" and until is not None and until <= now


def is_to_be_made(move: Move, redemption: Redemption, now: UnixMs) -> bool:
    """Whether a move changes the redemption; False when it was made already.

    Raises `Conflict` `redemption_not_reserved` or `redemption_not_redeemed`. A reservation whose time has passed has expired.
    """
    transition = TRANSITIONS[move]
    status = "expired" if is_overdue(redemption, now) else redemption.status
    if status == transition.leaves:
        return True
    if status == transition.becomes:
        return False
    raise Conflict(
        f"{redemption.id} is {_described(redemption, status)}; {move} is for one that is {transition.leaves}.",
        code="redemption_not_reserved" if transition.leaves == "reserved" else "redemption_not_redeemed",
        param="id",
    )


def _described(redemption: Redemption, status: RedemptionStatus) -> str:
    if status == "expired" and redemption.reserved_until is not None:
        return f"expired since {rfc3339(redemption.reserved_until)}"
    return status
