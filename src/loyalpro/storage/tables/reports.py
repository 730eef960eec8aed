"""Sums over the log of an account, a page of customers at a time, and lists. Satisfies `loyalty.ports.ReportStore`."""

from collections.abc import Collection
from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import Prefix, floor
from loyalpro.loyalty.entities import Activity, Customer, LedgerSums, LiabilityPage, Transaction
from loyalpro.loyalty.ledger import Entry
from loyalpro.storage.connection import Connection
from loyalpro.storage.sql import marks, padded_list, where
from loyalpro.storage.tables.customers import CustomerTables
from loyalpro.storage.tables.ledger import ENTRIES
from loyalpro.storage.tables.programs import ProgramTables
from loyalpro.storage.tables.transactions import TransactionTables

# The customers of a page, and the number of the last entry of each at an instant. CROSS JOIN keeps SQLite at this order.
_LAST_ENTRIES: Final = """
WITH last AS (
    SELECT c.id AS customer_id, (SELECT x.sequence FROM ledger_entries x
        WHERE x.customer_id = c.id AND x.created_at <= ? ORDER BY x.sequence DESC LIMIT 1) AS number
    FROM customers c WHERE c.account_id = ? AND c.id > ? AND c.id <= ?)
SELECT e.type, CAST(SUM(e.points) AS BIGINT),
    CAST(SUM(CASE WHEN e.sequence = last.number AND e.balance_after > 0 THEN e.balance_after ELSE 0 END) AS BIGINT),
    CAST(SUM(CASE WHEN e.sequence = last.number THEN e.pending_after ELSE 0 END) AS BIGINT),
    CAST(SUM(CASE WHEN e.sequence = last.number AND e.balance_after < 0 THEN -e.balance_after ELSE 0 END) AS BIGINT)
FROM last CROSS JOIN ledger_entries e WHERE e.customer_id = last.customer_id AND e.sequence <= last.number
GROUP BY e.type
"""
_HELD: Final = """
SELECT l.expires_at, CAST(SUM(l.original - COALESCE((SELECT SUM(a.points) FROM allocations a
        JOIN ledger_entries e ON e.id = a.entry_id WHERE a.lot_id = l.id AND e.created_at <= ?), 0)) AS BIGINT)
FROM customers c CROSS JOIN lots l
WHERE c.account_id = ? AND c.id > ? AND c.id <= ? AND l.customer_id = c.id AND l.created_at <= ?
GROUP BY l.expires_at
"""
_PAGE: Final = "SELECT id FROM customers WHERE account_id = ? AND id > ? ORDER BY id LIMIT ?"

_COUNTED_PREFIXES: Final[tuple[Prefix, ...]] = ("cus", "txn", "red")
_ACTIVITY: Final = (
    " UNION ALL ".join(
        f"SELECT {place}, COUNT(*), CAST(COALESCE(SUM(points), 0) AS BIGINT) FROM ("
        f"SELECT {points} AS points FROM {table} WHERE account_id = ? AND id >= ? AND id < ? ORDER BY id LIMIT ?) AS counted"
        for place, (table, points) in enumerate(
            (("customers", "0"), ("transactions", "points_earned"), ("redemptions", "points"))
        )
    )
    + " ORDER BY 1"
)


class ReportTables:
    """Reports, inside one database transaction."""

    def __init__(self, connection: Connection, programs: ProgramTables) -> None:
        self._connection = connection
        self._customers = CustomerTables(connection, programs)
        self._transactions = TransactionTables(connection)

    def liability(self, account_id: str, as_of: UnixMs, after_id: str, limit: int) -> LiabilityPage:
        """The sums of the next customers of an account, as of an instant."""
        page = [id_ for (id_,) in self._connection.execute(_PAGE, (account_id, after_id, limit))]
        if not page:
            return LiabilityPage(LedgerSums({}, 0, 0, 0), {}, None)
        last = page[-1]
        entries, held = self._connection.execute_all(
            [
                (_LAST_ENTRIES, (as_of, account_id, after_id, last)),
                (_HELD, (as_of, account_id, after_id, last, as_of)),
            ]
        )
        sums = LedgerSums(
            {type_: points for type_, points, *_ in entries},
            *(sum(row[index] for row in entries) for index in (2, 3, 4)),
        )
        return LiabilityPage(sums, dict(held), last if len(page) == limit else None)

    def due(self, account_id: str, until: UnixMs, after: tuple[UnixMs, str] | None, limit: int) -> list[Customer]:
        """Active customers with something that becomes due up to an instant, in the order of the time and the id."""
        clause, params = where(("next_due_at <= ?", until), ("account_id || '' = ?", account_id), "status = 'active'")
        if after is not None:
            clause, params = f"{clause} AND (next_due_at, id) > (?, ?)", [*params, *after]
        return self._customers.select(account_id, f"{clause} ORDER BY next_due_at, id LIMIT ?", (*params, limit))

    def activity(self, account_id: str, since: UnixMs, until: UnixMs, most: int) -> Activity:
        """What happened from an instant up to another one, by the times of the ids."""
        ranges = [
            bound
            for prefix in _COUNTED_PREFIXES
            for bound in (account_id, floor(prefix, since), floor(prefix, until), most)
        ]
        [enrolled, bought, redeemed] = self._connection.execute(_ACTIVITY, ranges)
        return Activity(int(enrolled[1]), int(bought[1]), int(bought[2]), int(redeemed[1]), int(redeemed[2]))

    def customers_after(self, account_id: str, tier_id: str | None, after_id: str, limit: int) -> list[Customer]:
        """The next active customers, oldest first."""
        clause, params = where(
            ("account_id = ?", account_id), ("tier_id = ?", tier_id), ("id > ?", after_id), "status = 'active'"
        )
        return self._customers.select(account_id, f"{clause} ORDER BY id LIMIT ?", (*params, limit))

    def transactions_between(
        self, account_id: str, customer_id: str | None, after_id: str, before_id: str | None, limit: int
    ) -> list[Transaction]:
        """The next purchases behind an id, and in front of another one, oldest first."""
        clause, params = where(
            ("account_id = ?", account_id),
            ("customer_id = ?", customer_id),
            ("id > ?", after_id),
            ("id < ?", before_id),
        )
        return self._transactions.select(f"{clause} ORDER BY id LIMIT ?", (*params, limit))

    def customer_ids_after(self, account_id: str, after_id: str, limit: int) -> list[str]:
        """The ids of the next customers, also of those that are not active any more."""
        return [id_ for (id_,) in self._connection.execute(_PAGE, (account_id, after_id, limit))]

    def entries_after(
        self, account_id: str, customer_ids: Collection[str], after: tuple[str, int], limit: int
    ) -> list[Entry]:
        """The next entries of these customers, at least one of the account, by customer and sequence, behind a place."""
        padded = padded_list(sorted(customer_ids))
        rows = self._connection.execute(
            f"SELECT {ENTRIES.columns()} FROM ledger_entries WHERE customer_id IN ({marks(len(padded))})"
            " AND (customer_id, sequence) > (?, ?) AND account_id = ? ORDER BY customer_id, sequence LIMIT ?",
            (*padded, *after, account_id, limit),
        )
        return ENTRIES.records(rows)
