"""The unit of work as routes see it: they hand it to use cases and touch nothing in it."""

from typing import Protocol

from loyalpro.accounts.ports import AccountsUnit
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.webhooks.ports import WebhooksUnit


class Unit(AccountsUnit, FraudUnit, WebhooksUnit, Protocol):
    """One database transaction that use cases of every package run in."""
