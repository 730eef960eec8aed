"""The unit of work as routes see it: they hand it to use cases and touch nothing in it."""

from typing import Any, Protocol

from loyalpro.accounts.ports import AccountsUnit
from loyalpro.webhooks.ports import WebhooksUnit


class Unit(AccountsUnit, WebhooksUnit, Protocol):
    """One database transaction that use cases of every package run in."""

    @property
    def loyalty(self) -> Any:
        """The program's tables."""
        ...

    @property
    def outbox(self) -> Any:
        """The events of the transaction."""
        ...
