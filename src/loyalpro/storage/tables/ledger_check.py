"""Reads the logs of all customers in the order of their ids, a few at a time, for `loyalty.ledger_check`."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

from loyalpro.loyalty.entities import DayTotals
from loyalpro.loyalty.ledger import Allocation, Balance, Entry, Lot
from loyalpro.loyalty.ledger_check import (
    CheckedCustomer,
    CheckedPurchase,
    CheckedRedemption,
    CheckedRefund,
    CustomerLog,
    LoggedEvent,
)
from loyalpro.storage.connection import DriverConnection
from loyalpro.storage.rows import JSON_TUPLE, RowMapper
from loyalpro.storage.sql import marks, padded_list

T = TypeVar("T")

ROWS_PER_PAGE: Final = 20_000
"""Customers are read together as long as their entries and events are not more; one customer with more is read alone."""
_MOST_CUSTOMERS: Final = 128

_CUSTOMERS: Final = RowMapper(CheckedCustomer, "customers", parts={"balance": Balance})
_ENTRIES: Final = RowMapper(Entry, "ledger_entries", codecs={"rules": JSON_TUPLE})
_LOTS: Final = RowMapper(Lot, "lots")
_ALLOCATIONS: Final = RowMapper(Allocation, "allocations")
_PURCHASES: Final = RowMapper(CheckedPurchase, "transactions")
_REFUNDS: Final = RowMapper(CheckedRefund, "refunds")
_REDEMPTIONS: Final = RowMapper(CheckedRedemption, "redemptions")
_DAYS: Final = RowMapper(DayTotals, "customer_days")

_NEXT: Final = f"SELECT {_CUSTOMERS.columns()} FROM customers WHERE id > ? ORDER BY id LIMIT {_MOST_CUSTOMERS}"
_TOLD: Final = "type LIKE 'points.%' OR type = 'customer.tier_changed'"
_SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
_ZONES: Final = "SELECT account_id, rules FROM program_versions"
_OPEN_CASES: Final = """
SELECT rule_code, COUNT(*) FROM fraud_cases WHERE status = 'open' GROUP BY account_id, rule_code, key_hash HAVING COUNT(*) > 1
ORDER BY rule_code
"""


class LedgerReader:
    """The logs of all customers. Each page is one transaction that sees one state of the database, also while it is used."""

    def __init__(self, connection: DriverConnection, *, rows_per_page: int = ROWS_PER_PAGE) -> None:
        self._connection = connection
        self._rows_per_page = rows_per_page

    def count(self) -> int:
        """How many customers there are."""
        [(number,)] = self._connection.execute("SELECT COUNT(*) FROM customers")
        return int(number)

    def double_cases(self) -> list[str]:
        """The rules that have several open fraud cases for one key, in words."""
        rows = self._connection.execute(_OPEN_CASES)
        return [f"the rule {rule} has {number} open cases for one key" for rule, number in rows]

    def pages(self) -> Iterator[list[CustomerLog]]:
        """The logs of the next customers, until all were read."""
        after: str | None = ""
        while after is not None:
            self._connection.begin()
            try:
                if self._connection.dialect.is_postgres:
                    self._connection.execute(_SNAPSHOT)
                page = self._page(after)
            finally:
                self._connection.rollback()
            yield page
            after = page[-1].customer.id if page else None

    def _page(self, after: str) -> list[CustomerLog]:
        following = _CUSTOMERS.records(self._connection.execute(_NEXT, (after,)))
        customers, rows = following[:1], 0
        for each in following[1:]:
            rows += each.ledger_sequence + each.event_sequence
            if rows > self._rows_per_page:
                break
            customers.append(each)
        return self._logs(customers) if customers else []

    def _logs(self, customers: Sequence[CheckedCustomer]) -> list[CustomerLog]:
        ids = padded_list([each.id for each in customers])
        zones, merged = self._zones(), self._merged(ids)
        entries = _grouped(self._read(_ENTRIES, ids, "sequence"))
        lots = _grouped(self._read(_LOTS, ids, "id"))
        of_entries = self._allocations("ledger_entries", "entry_id", ids)
        of_lots = self._allocations("lots", "lot_id", ids)
        events = self._events(ids)
        purchases = self._of_customers(_PURCHASES, ids)
        refunds = self._of_customers(_REFUNDS, ids)
        redemptions = self._of_customers(_REDEMPTIONS, ids)
        days = _grouped(self._read(_DAYS, ids, "day"))
        return [
            CustomerLog(
                each,
                entries[each.id],
                lots[each.id],
                of_entries[each.id],
                of_lots[each.id],
                events[each.id],
                purchases[each.id],
                refunds[each.id],
                redemptions[each.id],
                days[each.id],
                each.id in merged,
                zones.get(each.account_id),
            )
            for each in customers
        ]

    def _read(self, mapper: RowMapper[T], ids: Sequence[str], order: str) -> list[T]:
        sql = f"SELECT {mapper.columns()} FROM {mapper.table} WHERE customer_id IN ({marks(len(ids))}) ORDER BY {order}"
        return mapper.records(self._connection.execute(sql, ids))

    def _of_customers(self, mapper: RowMapper[T], ids: Sequence[str]) -> defaultdict[str, list[T]]:
        found: defaultdict[str, list[T]] = defaultdict(list)
        sql = f"SELECT {mapper.columns()}, customer_id FROM {mapper.table} WHERE customer_id IN ({marks(len(ids))}) ORDER BY id"
        for item, (customer_id,) in map(mapper.split, self._connection.execute(sql, ids)):
            found[customer_id].append(item)
        return found

    def _allocations(self, table: str, key: str, ids: Sequence[str]) -> defaultdict[str, list[Allocation]]:
        """The allocations of the entries or of the lots of customers."""
        found: defaultdict[str, list[Allocation]] = defaultdict(list)
        rows = self._connection.execute(
            f"SELECT {_ALLOCATIONS.columns('a')}, o.customer_id FROM {table} o CROSS JOIN allocations a"
            f" WHERE o.customer_id IN ({marks(len(ids))}) AND a.{key} = o.id ORDER BY a.entry_id, a.lot_id",
            ids,
        )
        for allocation, (customer_id,) in map(_ALLOCATIONS.split, rows):
            found[customer_id].append(allocation)
        return found

    def _events(self, ids: Sequence[str]) -> defaultdict[str, list[LoggedEvent]]:
        found: defaultdict[str, list[LoggedEvent]] = defaultdict(list)
        rows = self._connection.execute(
            f"SELECT customer_id, sequence, type, created_at, CASE WHEN erased_at IS NULL AND ({_TOLD}) THEN body END"
            f" FROM events WHERE customer_id IN ({marks(len(ids))}) ORDER BY sequence",
            ids,
        )
        for customer_id, sequence, type_, created_at, body in rows:
            data = None if body is None else json.loads(bytes(body))["data"]
            found[customer_id].append(LoggedEvent(sequence, type_, created_at, data))
        return found

    def _merged(self, ids: Sequence[str]) -> set[str]:
        """Those of these customers into which another one was merged."""
        sql = f"SELECT merged_into_id FROM customers WHERE merged_into_id IN ({marks(len(ids))})"
        return {id_ for (id_,) in self._connection.execute(sql, ids)}

    def _zones(self) -> dict[str, str | None]:
        """The time zone of each account; None for an account that had several."""
        found: dict[str, str | None] = {}
        for account_id, rules in self._connection.execute(_ZONES):
            zone = json.loads(rules)["time_zone"]
            found[account_id] = zone if found.get(account_id, zone) == zone else None
        return found


def _grouped(items: Sequence[Any]) -> defaultdict[str, list[Any]]:
    """Items by their customers, in their order."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for each in items:
        found[each.customer_id].append(each)
    return found
