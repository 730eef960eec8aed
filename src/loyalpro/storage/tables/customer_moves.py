"""What else belongs to a customer, when it is merged or deleted. Satisfies `loyalty.ports.CustomerMoveStore`."""

from typing import Final

from loyalpro.storage.connection import Connection

_OWNED: Final = ("lots", "transactions", "refunds", "redemptions", "adjustments", "fraud_cases")
_COUNTED: Final = ("purchases", "spend", "points_qualifying", "refunds", "refunded", "redemptions", "points_redeemed")
_ADD_DAYS: Final = (
    f"INSERT INTO customer_days (customer_id, day, account_id, {', '.join(_COUNTED)})"
    f" SELECT ?, day, account_id, {', '.join(_COUNTED)} FROM customer_days WHERE customer_id = ?"
    " ON CONFLICT (customer_id, day) DO UPDATE SET "
    + ", ".join(f"{name} = customer_days.{name} + excluded.{name}" for name in _COUNTED)
)
_ADD_CAMPAIGN_USES: Final = """
INSERT INTO campaign_uses (campaign_id, customer_id, uses)
SELECT campaign_id, ?, uses FROM campaign_uses WHERE customer_id = ?
ON CONFLICT (campaign_id, customer_id) DO UPDATE SET uses = campaign_uses.uses + excluded.uses
"""
_SEE_LATER: Final = """
UPDATE identity_values SET last_seen = other.last_seen FROM identity_values other
WHERE identity_values.customer_id = ? AND other.customer_id = ? AND other.account_id = identity_values.account_id
    AND other.kind = identity_values.kind AND other.hash = identity_values.hash
    AND other.last_seen > identity_values.last_seen
"""
"""A value that both customers have was seen when it was last seen with either."""
_MOVE_IDENTITY: Final = """
UPDATE identity_values SET customer_id = ? WHERE customer_id = ? AND NOT EXISTS (
    SELECT 1 FROM identity_values other WHERE other.account_id = identity_values.account_id
    AND other.kind = identity_values.kind AND other.hash = identity_values.hash AND other.customer_id = ?)
"""


class CustomerMoveTables:
    """The rows of customers, inside one transaction that has locked the customers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def move(self, customer_id: str, into_id: str) -> None:
        """Make another customer the owner of all rows but the ledger's. Days and uses of campaigns are added up.

        Customers that were merged into the first one are merged into the other one then.
        """
        moved = (into_id, customer_id)
        for table in _OWNED:
            self._connection.execute(f"UPDATE {table} SET customer_id = ? WHERE customer_id = ?", moved)
        for statement in (_ADD_DAYS, _ADD_CAMPAIGN_USES, _SEE_LATER):
            self._connection.execute(statement, moved)
        self._connection.execute(_MOVE_IDENTITY, (*moved, into_id))
        for table in ("customer_days", "campaign_uses"):
            self._connection.execute(f"DELETE FROM {table} WHERE customer_id = ?", (customer_id,))
        self.remove_derived(customer_id)
        self._connection.execute(
            "UPDATE customers SET merged_into_id = ? WHERE merged_into_id = ? AND status = 'merged'", moved
        )

    def remove_derived(self, customer_id: str) -> None:
        """Remove what was derived from a customer: identity values and its churn score."""
        for table in ("identity_values", "churn_scores"):
            self._connection.execute(f"DELETE FROM {table} WHERE customer_id = ?", (customer_id,))
