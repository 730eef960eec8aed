"""Reads the logs of all customers in the order of their ids, a few at a time, for `loyalty.ledger_check`."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, TypeVar

from loyalpro.loyalty.customer_log import (
    CheckedAdjustment,
    CheckedCustomer,
    CheckedPurchase,
    CheckedRedemption,
    CheckedRefund,
    CustomerLog,
    LoggedEvent,
)
from loyalpro.loyalty.entities import DayTotals
from loyalpro.loyalty.ledger import Allocation, Balance, Entry, Lot
from loyalpro.storage.connection import Connection, DriverConnection, Row
from loyalpro.storage.rows import FLAG, JSON_TUPLE, RowMapper
from loyalpro.storage.sql import marks, padded_chunks, padded_list

T = TypeVar("T")

ROWS_PER_PAGE: Final = 20_000
"""Customers are read together as long as their entries and events, and those of the customers that were merged into them, are
not more; one customer with more is read alone."""
MOST_CUSTOMERS: Final = 128
"""The most customers that are read together."""

_CUSTOMERS: Final = RowMapper(CheckedCustomer, "customers", parts={"balance": Balance})
_ENTRIES: Final = RowMapper(Entry, "ledger_entries", codecs={"rules": JSON_TUPLE})
_LOTS: Final = RowMapper(Lot, "lots")
_ALLOCATIONS: Final = RowMapper(Allocation, "allocations")
_PURCHASES: Final = RowMapper(CheckedPurchase, "transactions")
_REFUNDS: Final = RowMapper(CheckedRefund, "refunds")
_REDEMPTIONS: Final = RowMapper(CheckedRedemption, "redemptions")
_ADJUSTMENTS: Final = RowMapper(CheckedAdjustment, "adjustments", codecs={"counts_toward_tier": FLAG})
_DAYS: Final = RowMapper(DayTotals, "customer_days")

_NEXT: Final = f"SELECT {_CUSTOMERS.columns()} FROM customers WHERE id > ? ORDER BY id LIMIT {MOST_CUSTOMERS}"
_TOLD: Final = "type LIKE 'points.%' OR type IN ('customer.created', 'customer.tier_changed')"
_SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
_OPEN_CASES: Final = """
SELECT rule_code, COUNT(*) FROM fraud_cases WHERE status = 'open' GROUP BY account_id, rule_code, key_hash HAVING COUNT(*) > 1
ORDER BY rule_code
"""


class LedgerReader:
    """The logs of all customers. Each page is one transaction that sees one state of the database, also while it is used."""

    def __init__(self, connection: DriverConnection, *, rows_per_page: int = ROWS_PER_PAGE) -> None:
        self._connection = connection
        self._logs = LogTables(connection, rows_per_page)

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
                page = self._logs.page(after)
            finally:
                self._connection.rollback()
            yield page
            after = page[-1].customer.id if page else None


class LogTables:
    """The logs of customers, inside one transaction after the other."""

    def __init__(self, connection: Connection, rows_per_page: int = ROWS_PER_PAGE) -> None:
        self._connection = connection
        self._rows_per_page = rows_per_page
        self._zones: dict[str, dict[int, str]] = {}

    def page(self, after: str) -> list[CustomerLog]:
        """The logs of the first customers behind this id; empty when there are none."""
        following = _CUSTOMERS.records(self._connection.execute(_NEXT, (after,)))
        merged = self._merged(following)
        page, rows = following[:1], 0
        for each in following[1:]:
            rows += sum(log.ledger_sequence + log.event_sequence for log in (each, *merged[each.id]))
            if rows > self._rows_per_page:
                break
            page.append(each)
        return self._logs(page, merged) if page else []

    def _logs(
        self, customers: Sequence[CheckedCustomer], merged: Mapping[str, Sequence[CheckedCustomer]]
    ) -> list[CustomerLog]:
        ids = padded_list([each.id for each in customers])
        gone = [each.id for customer in customers for each in merged[customer.id]]
        self._read_zones({each.account_id for each in customers})
        entries = _grouped(self._read(_ENTRIES, ids, "sequence"))
        lots = _grouped(self._read(_LOTS, ids, "id"))
        for chunk in padded_chunks(gone):
            entries |= _grouped(self._read(_ENTRIES, chunk, "sequence"))
        of_entries = self._allocations("entry_id", _owners(entries))
        of_lots = self._allocations("lot_id", _owners(lots))
        events = self._events(ids)
        purchases = self._of_customers(_PURCHASES, ids)
        refunds = self._of_customers(_REFUNDS, ids)
        redemptions = self._of_customers(_REDEMPTIONS, ids)
        adjustments = self._of_customers(_ADJUSTMENTS, ids)
        days = _grouped(self._read(_DAYS, ids, "day"))
        return [
            CustomerLog(
                each,
                entries[each.id],
                [entry for other in merged[each.id] for entry in entries[other.id]],
                lots[each.id],
                [allocation for other in (each, *merged[each.id]) for allocation in of_entries[other.id]],
                of_lots[each.id],
                events[each.id],
                purchases[each.id],
                refunds[each.id],
                redemptions[each.id],
                adjustments[each.id],
                days[each.id],
                self._zones[each.account_id],
            )
            for each in customers
        ]

    def _read(self, mapper: RowMapper[T], ids: Sequence[str], order: str) -> list[T]:
        """The rows of these customers, in this order. If the database sorted, it would scan the index of the order."""
        sql = f"SELECT {mapper.columns()} FROM {mapper.table} WHERE customer_id IN ({marks(len(ids))})"
        return sorted(mapper.records(self._connection.execute(sql, ids)), key=attrgetter(order))

    def _of_customers(self, mapper: RowMapper[T], ids: Sequence[str]) -> defaultdict[str, list[T]]:
        found: defaultdict[str, list[T]] = defaultdict(list)
        sql = f"SELECT {mapper.columns()}, customer_id FROM {mapper.table} WHERE customer_id IN ({marks(len(ids))})"
        for item, (customer_id,) in sorted(map(mapper.split, self._connection.execute(sql, ids)), key=_id):
            found[customer_id].append(item)
        return found

    def _allocations(self, key: str, owners: Mapping[str, str]) -> defaultdict[str, list[Allocation]]:
        """The allocations of entries or of lots, by the customer that has these. A join would scan all without statistics."""
        allocations: list[Allocation] = []
        for chunk in padded_chunks(list(owners)):
            sql = f"SELECT {_ALLOCATIONS.columns()} FROM allocations WHERE {key} IN ({marks(len(chunk))})"
            allocations += _ALLOCATIONS.records(self._connection.execute(sql, chunk))
        found: defaultdict[str, list[Allocation]] = defaultdict(list)
        for each in sorted(allocations, key=attrgetter("entry_id", "lot_id")):
            found[owners[getattr(each, key)]].append(each)
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

    def _merged(self, customers: Sequence[CheckedCustomer]) -> defaultdict[str, list[CheckedCustomer]]:
        """The customers that were merged into each of these."""
        found: defaultdict[str, list[CheckedCustomer]] = defaultdict(list)
        if customers:
            ids = padded_list([each.id for each in customers])
            sql = f"SELECT {_CUSTOMERS.columns()}, merged_into_id FROM customers WHERE merged_into_id IN ({marks(len(ids))})"
            for customer, (into_id,) in map(_CUSTOMERS.split, self._connection.execute(sql, ids)):
                found[into_id].append(customer)
        return found

    def _read_zones(self, account_ids: Collection[str]) -> None:
        """The time zone of each version of these accounts' programs. Versions never change, so new ones are read only."""
        self._zones = {each: self._zones.get(each, {}) for each in account_ids}
        known = min(max(versions, default=0) for versions in self._zones.values())
        ids = padded_list(sorted(account_ids))
        sql = f"SELECT account_id, version, rules FROM program_versions WHERE account_id IN ({marks(len(ids))}) AND version > ?"
        for account_id, version, rules in self._connection.execute(sql, (*ids, known)):
            self._zones[account_id][version] = json.loads(rules)["time_zone"]


def _grouped(items: Sequence[Any]) -> defaultdict[str, list[Any]]:
    """Items by their customers, in their order."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for each in items:
        found[each.customer_id].append(each)
    return found


def _id(found: tuple[Any, Row]) -> str:
    """The id of a record that was split off a row."""
    return str(found[0].id)


def _owners(items: Mapping[str, Sequence[Entry | Lot]]) -> dict[str, str]:
    """The customer of each entry or lot, by its id."""
    return {each.id: each.customer_id for group in items.values() for each in group}
