"""The ledger: entries, lots and allocations. Satisfies `loyalty.ports.LedgerStore`."""

import json
from collections.abc import Collection, Sequence
from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.ledger import Allocation, Entry, EntryCause, EntryTotal, LedgerPosition, Lot
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.rows import JSON_TUPLE, RowMapper
from loyalpro.storage.sql import flat, marks, padded_chunks, where

ENTRIES: Final = RowMapper(Entry, "ledger_entries", codecs={"rules": JSON_TUPLE})
_LOTS: Final = RowMapper(Lot, "lots")
_ALLOCATIONS: Final = RowMapper(Allocation, "allocations")
_CHANGING: Final = ("remaining", "status", "activates_at", "expires_at", "hold_case_id", "customer_id")
_UPDATE_LOTS: Final = _LOTS.update_many("id", *_CHANGING)
_CAUSE: Final = RowMapper(EntryCause, "ledger_causes")
_CAUSES: Final = """
SELECT t.id, t.id, t.external_id, t.amount, t.currency, NULL FROM transactions t WHERE t.id IN ({ids})
UNION ALL
SELECT r.id, t.id, t.external_id, r.amount, t.currency, NULL
FROM refunds r JOIN transactions t ON t.id = r.transaction_id WHERE r.id IN ({ids})
UNION ALL
SELECT d.id, d.transaction_id, NULL, NULL, NULL, d.reward FROM redemptions d WHERE d.id IN ({ids})
"""


class LedgerTables:
    """Entries, lots and allocations, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert_entries(self, entries: Sequence[Entry]) -> None:
        """Append entries."""
        self._connection.execute_many(ENTRIES.insert, [ENTRIES.values(each) for each in entries])

    def insert_lots(self, lots: Sequence[Lot]) -> None:
        """Store the lots of credits."""
        self._connection.execute_many(_LOTS.insert, [_LOTS.values(each) for each in lots])

    def insert_allocations(self, allocations: Sequence[Allocation]) -> None:
        """Store what entries took out of lots."""
        self._connection.execute_many(_ALLOCATIONS.insert, [_ALLOCATIONS.values(each) for each in allocations])

    def update_lots(self, lots: Sequence[Lot]) -> None:
        """Store what remains of lots, their status, dates and customer; a statement changes at most 256 of them."""
        for chunk in padded_chunks(lots):
            sql = _UPDATE_LOTS.format(rows=marks(len(chunk), f"({marks(1 + len(_CHANGING))})"))
            self._connection.execute_many(sql, [flat((lot.id, *_LOTS.values_of(lot, *_CHANGING)) for lot in chunk)])

    def lots(self, lot_ids: Collection[str]) -> list[Lot]:
        """These lots, of which there is at least one, also those that hold no points."""
        return self._lots_where("id", lot_ids)

    def lots_of_transactions(self, transaction_ids: Collection[str]) -> list[Lot]:
        """The lots of these purchases, of which there is at least one, also those that hold no points."""
        return self._lots_where("transaction_id", transaction_ids)

    def entries_of_source(self, source_id: str) -> list[Entry]:
        """The entries that a source made, in the order of their ids."""
        return self.entries_of_sources([source_id])

    def entries_of_sources(self, source_ids: Collection[str]) -> list[Entry]:
        """The entries that these sources, of which there is at least one, made, in the order of their ids."""
        found: list[Entry] = []
        for chunk in padded_chunks(list(source_ids)):
            rows = self._connection.execute(
                f"SELECT {ENTRIES.columns()} FROM ledger_entries WHERE source_id IN ({marks(len(chunk))})", chunk
            )
            found += ENTRIES.records(rows)
        return sorted(found, key=lambda entry: entry.id)

    def allocations_of_entries(self, entry_ids: Collection[str]) -> list[Allocation]:
        """What these entries, of which there is at least one, took out of lots."""
        return self._allocations_where("entry_id", entry_ids)

    def allocations_of_lots(self, lot_ids: Collection[str]) -> list[Allocation]:
        """What was taken out of these lots, of which there is at least one."""
        return self._allocations_where("lot_id", lot_ids)

    def lots_with_points(self, customer_ids: Collection[str]) -> list[Lot]:
        """All lots of these customers that hold points."""
        found: list[Lot] = []
        for chunk in padded_chunks(list(customer_ids)):
            rows = self._connection.execute(
                f"SELECT {_LOTS.columns()} FROM lots WHERE customer_id IN ({marks(len(chunk))}) AND remaining > 0",
                chunk,
            )
            found += _LOTS.records(rows)
        return found

    def list_entries(self, customer_id: str, before_id: str | None, limit: int) -> list[Entry]:
        """A customer's entries, newest first, before the entry `before_id`."""
        clause, params = where(
            ("customer_id = ?", customer_id),
            ("sequence < (SELECT sequence FROM ledger_entries WHERE id = ?)", before_id),
        )
        return ENTRIES.records(
            self._connection.execute(
                f"SELECT {ENTRIES.columns()} FROM ledger_entries {clause} ORDER BY sequence DESC LIMIT ?",
                (*params, limit),
            )
        )

    def list_lots(self, customer_id: str, before_id: str | None, limit: int, *, only_open: bool = False) -> list[Lot]:
        """A customer's lots, newest first. `only_open`: those that hold points."""
        clause, params = where(
            ("customer_id = ?", customer_id), ("id < ?", before_id), "remaining > 0" if only_open else ""
        )
        return _LOTS.records(
            self._connection.execute(
                f"SELECT {_LOTS.columns()} FROM lots {clause} ORDER BY id DESC LIMIT ?", (*params, limit)
            )
        )

    def next_to_expire(self, customer_id: str, limit: int) -> list[Lot]:
        """A customer's lots that hold points, soonest to expire first."""
        rows = self._connection.execute(
            f"SELECT {_LOTS.columns()} FROM lots WHERE customer_id = ? AND remaining > 0 ORDER BY expires_at, id LIMIT ?",
            (customer_id, limit),
        )
        return _LOTS.records(rows)

    def causes(self, source_ids: Collection[str]) -> list[EntryCause]:
        """What caused entries, as far as these ids, of which there is at least one, are purchases, refunds or redemptions."""
        found: list[EntryCause] = []
        for chunk in padded_chunks(list(source_ids)):
            rows = self._connection.execute(_CAUSES.format(ids=marks(len(chunk))), (*chunk, *chunk, *chunk))
            found += [_CAUSE.record((*row[:-1], _name(row[-1]))) for row in rows]
        return found

    def position(self, customer_id: str, before: UnixMs | None) -> LedgerPosition:
        """Where a customer's ledger stood just before an instant; where it stands, for None."""
        clause, params = where(("customer_id = ?", customer_id), ("created_at < ?", before))
        rows = self._connection.execute(
            "SELECT sequence, balance_after, pending_after FROM ledger_entries"
            f" {clause} ORDER BY sequence DESC LIMIT 1",
            params,
        )
        return LedgerPosition(*rows[0]) if rows else LedgerPosition()

    def totals(self, customer_id: str, after: int, through: int) -> list[EntryTotal]:
        """The sum of a customer's entries of each type, from the sequence after `after` to the sequence `through`."""
        rows = self._connection.execute(
            "SELECT type, COUNT(*), CAST(SUM(points) AS BIGINT) FROM ledger_entries"
            " WHERE customer_id = ? AND sequence > ? AND sequence <= ? GROUP BY type ORDER BY type",
            (customer_id, after, through),
        )
        return [EntryTotal(*row) for row in rows]

    def _lots_where(self, column: str, keys: Collection[str]) -> list[Lot]:
        rows: list[Row] = []
        for chunk in padded_chunks(list(keys)):
            rows += self._connection.execute(
                f"SELECT {_LOTS.columns()} FROM lots WHERE {column} IN ({marks(len(chunk))})", chunk
            )
        return _LOTS.records(rows)

    def _allocations_where(self, column: str, keys: Collection[str]) -> list[Allocation]:
        rows: list[Row] = []
        for chunk in padded_chunks(list(keys)):
            rows += self._connection.execute(
                f"SELECT {_ALLOCATIONS.columns()} FROM allocations WHERE {column} IN ({marks(len(chunk))})", chunk
            )
        return _ALLOCATIONS.records(rows)

    def list_allocations(self, customer_id: str) -> list[Allocation]:
        """What was taken out of a customer's lots, in the order of the entries."""
        return _ALLOCATIONS.records(
            self._connection.execute(
                f"SELECT {_ALLOCATIONS.columns('a')} FROM allocations a JOIN lots l ON l.id = a.lot_id"
                " WHERE l.customer_id = ? ORDER BY a.entry_id, a.lot_id",
                (customer_id,),
            )
        )


def _name(reward: str | None) -> str | None:
    """The name of the reward that a redemption has stored."""
    return None if reward is None else json.loads(reward)["name"]
