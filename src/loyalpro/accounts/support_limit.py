"""How many points a member with the role support may give or take at once."""

from typing import Final

from loyalpro.accounts.ports import AccountsUnit
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record

HIGHEST: Final = 1_000_000_000


@record
class LimitSupport:
    """The most points that support may give or take at once; None for no limit. `before`: what held until now."""

    account_id: str
    points: int | None
    before: int | None


def limit_support(unit: AccountsUnit, command: LimitSupport) -> None:
    """Store the limit. Raises `InvalidInput` for one that is below 0 or above `HIGHEST`."""
    if command.points is not None and not 0 <= command.points <= HIGHEST:
        raise InvalidInput(
            f"A limit is a whole number from 0 to {HIGHEST:,}, or nothing.", code="invalid_field", param="points"
        )
    unit.accounts.limit_support(command.account_id, command.points)
    changes = {
        "before": {"support_points_limit": command.before},
        "after": {"support_points_limit": command.points},
    }
    unit.audit(command.account_id, "account.updated", command.account_id, changes)
