"""Reads everything that is stored about a customer, a bounded number of rows at a time."""

from typing import Any, Final

from loyalpro.kernel.record import record
from loyalpro.loyalty.customers import GetCustomer, get_customer
from loyalpro.loyalty.entities import ExportRows
from loyalpro.loyalty.ports import LoyaltyUnit

SECTIONS: Final = (
    *("customers", "transactions", "refunds", "redemptions", "adjustments", "ledger", "lots", "days"),
    *("campaign_uses", "fraud_cases", "identity_values", "churn_scores", "audit_log", "events"),
)
"""The parts of an export, in their order."""

ROWS_AT_ONCE: Final = 250


@record
class ReadExport:
    """The rows of a section to read: those after the key `after`, or the first ones for None."""

    account_id: str
    customer_id: str
    section: str
    after: Any


def exported_customers(unit: LoyaltyUnit, command: GetCustomer) -> list[str]:
    """The ids whose rows the export of a customer has: its own, and those of customers that were merged into it.

    A merged customer keeps its ledger and its events. Raises `NotFound` `customer_not_found`.
    """
    customer = get_customer(unit, command)
    return [customer.id, *unit.customers.merged_into(customer.id)]


def read_export(unit: LoyaltyUnit, command: ReadExport) -> ExportRows:
    """The next rows of a section, at most 250."""
    return unit.exports.rows(command.section, command.account_id, command.customer_id, command.after, ROWS_AT_ONCE)
