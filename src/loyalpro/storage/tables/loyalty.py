"""Programmes, customers, purchases and the ledger. Satisfies `loyalty.ports.LoyaltyStore`."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict

from pydantic_core import to_json

from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.ledger import Balance, Entry, Lot
from loyalpro.loyalty.ports import Customer, Transaction
from loyalpro.loyalty.program import EarnRule, Program, Tier, default_program
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.sql import marks, padded_list
from loyalpro.storage.tables.erasures import ErasureTables

_CUSTOMER = (
    "c.id, c.account_id, c.external_id, c.email, c.phone, c.name, c.metadata, c.status, c.tier_id, c.available, c.pending,"
    " c.debt, c.lifetime_earned, c.lifetime_redeemed, c.ledger_sequence, c.event_sequence, c.created_at, c.updated_at"
)
_TRANSACTION = (
    "id, account_id, customer_id, external_id, status, currency, amount, items, channel, location_id, employee_id,"
    " metadata, points_earned, occurred_at, created_at"
)
_ENTRY = (
    "id, customer_id, sequence, type, points, balance_after, pending_after, source_type, source_id, actor, rules,"
    " occurred_at, created_at, part, reverses_entry_id, reason_code, note"
)
_LOT = "id, customer_id, entry_id, original, remaining, earned_at, activates_at, expires_at, status, created_at"

_INSERT_CUSTOMER = f"INSERT INTO customers ({_CUSTOMER.replace('c.', '')}) VALUES ({marks(18)}) ON CONFLICT DO NOTHING"
_INSERT_TRANSACTION = f"INSERT INTO transactions ({_TRANSACTION}) VALUES ({marks(15)})"
_INSERT_ENTRY = f"INSERT INTO ledger_entries ({_ENTRY}) VALUES ({marks(17)})"
_INSERT_LOT = f"INSERT INTO lots ({_LOT}) VALUES ({marks(10)})"
_INSERT_ALLOCATION = "INSERT INTO allocations (entry_id, lot_id, points) VALUES (?, ?, ?)"
_UPDATE_BALANCES = """
UPDATE customers SET available = v.column2, pending = v.column3, debt = v.column4, lifetime_earned = v.column5,
    lifetime_redeemed = v.column6, ledger_sequence = v.column7, event_sequence = v.column8, updated_at = v.column9
FROM (VALUES {rows}) AS v
WHERE customers.id = v.column1
"""


class LoyaltyTables:
    """The programme's tables, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._programs: dict[str, Program] = {}
        self._for_update = " FOR UPDATE OF c" if connection.dialect.is_postgres else ""

    # -- the programme -----------------------------------------------------------------------------------------------

    def insert_program(self, account_id: str, ids: IdFactory) -> None:
        """Give a new account the default programme."""
        self._connection.execute(
            "INSERT INTO programs (account_id, rules, version) VALUES (?, ?, 1)",
            (account_id, json.dumps(asdict(default_program(ids)))),
        )

    def program(self, account_id: str) -> Program:
        """The rules in force, read once in a transaction."""
        if account_id not in self._programs:
            [(rules,)] = self._connection.execute("SELECT rules FROM programs WHERE account_id = ?", (account_id,))
            self._programs[account_id] = _program(rules)
        return self._programs[account_id]

    # -- customers ---------------------------------------------------------------------------------------------------

    def insert_customer(self, customer: Customer) -> bool:
        """False when another customer of the account has this external id."""
        balance = customer.balance
        return (
            self._connection.change(
                _INSERT_CUSTOMER,
                (
                    customer.id,
                    customer.account_id,
                    *_details(customer),
                    customer.status,
                    customer.tier.id,
                    balance.available,
                    balance.pending,
                    balance.debt,
                    balance.lifetime_earned,
                    balance.lifetime_redeemed,
                    customer.ledger_sequence,
                    customer.event_sequence,
                    customer.created_at,
                    customer.updated_at,
                ),
            )
            == 1
        )

    def get_customer(self, account_id: str, customer_id: str) -> Customer | None:
        """One customer."""
        return self._customer("c.account_id = ? AND c.id = ?", (account_id, customer_id))

    def lock_customer(self, account_id: str, customer_id: str) -> Customer | None:
        """The customer as it is now, unless it is deleted; on SQLite the whole database is ours already."""
        where = "c.account_id = ? AND c.id = ? AND c.status = 'active'"
        return self._customer(where, (account_id, customer_id), self._for_update)

    def lock_customers(self, account_id: str, customer_ids: Collection[str]) -> list[Customer]:
        """Those that there are and are not deleted, locked in the order of their ids."""
        return self._lock_all(account_id, "c.id", customer_ids)

    def lock_customers_by_external_id(self, account_id: str, external_ids: Collection[str]) -> list[Customer]:
        """The same, by the merchant's own ids."""
        return self._lock_all(account_id, "c.external_id", external_ids)

    def _lock_all(self, account_id: str, column: str, wanted: Collection[str]) -> list[Customer]:
        if not wanted:
            return []
        padded = padded_list(wanted)
        rows = self._connection.execute(
            f"SELECT {_CUSTOMER} FROM customers c WHERE c.account_id = ? AND c.status = 'active' AND {column}"
            f" IN ({marks(len(padded))})"
            f" ORDER BY c.id{self._for_update}",
            (account_id, *padded),
        )
        program = self.program(account_id)
        return [_customer(row, program) for row in rows]

    def list_customers(
        self, account_id: str, external_id: str | None, email: str | None, before_id: str | None, limit: int
    ) -> list[Customer]:
        """Customers, newest first."""
        where, params = _where(
            ("c.account_id = ?", account_id),
            ("c.status = ?", "active"),
            ("c.external_id = ?", external_id),
            ("c.email = ?", email),
            ("c.id < ?", before_id),
        )
        rows = self._connection.execute(
            f"SELECT {_CUSTOMER} FROM customers c WHERE {where} ORDER BY c.id DESC LIMIT ?", (*params, limit)
        )
        return [_customer(row, self.program(account_id)) for row in rows]

    def update_customer(self, customer: Customer) -> bool:
        """Store details and event sequence. False when another customer of the account has this external id."""
        taken = self._connection.execute(
            "SELECT 1 FROM customers WHERE account_id = ? AND external_id = ? AND id <> ?",
            (customer.account_id, customer.external_id, customer.id),
        )
        if taken:
            return False
        self._connection.execute(
            "UPDATE customers SET external_id = ?, email = ?, phone = ?, name = ?, metadata = ?, event_sequence = ?,"
            " updated_at = ? WHERE id = ?",
            (*_details(customer), customer.event_sequence, customer.updated_at, customer.id),
        )
        return True

    def update_balances(self, customers: Sequence[Customer]) -> None:
        """Store points and sequences."""
        if not customers:
            return
        rows = padded_list([_balance_values(each) for each in customers])
        self._connection.execute_many(
            _UPDATE_BALANCES.format(rows=marks(len(rows), f"({marks(9)})")),
            [[value for row in rows for value in row]],
        )

    def forget_customer(self, customer: Customer, *, known_through: int) -> None:
        """Store what is left of a deleted customer, and have erased what its events up to `known_through` say."""
        self._connection.execute(
            "UPDATE customers SET external_id = ?, email = ?, phone = ?, name = ?, metadata = ?, status = 'deleted'"
            " WHERE id = ?",
            (*_details(customer), customer.id),
        )
        self.update_balances([customer])
        erasures = ErasureTables(self._connection)
        erasures.begin(customer.account_id, customer.id, known_through, customer.updated_at)

    def _customer(self, where: str, params: Sequence[object], suffix: str = "") -> Customer | None:
        rows = self._connection.execute(f"SELECT {_CUSTOMER} FROM customers c WHERE {where}{suffix}", params)
        return _customer(rows[0], self.program(rows[0][1])) if rows else None

    # -- purchases ---------------------------------------------------------------------------------------------------

    def insert_transactions(self, transactions: Sequence[Transaction]) -> None:
        """Store purchases."""
        self._connection.execute_many(_INSERT_TRANSACTION, [_transaction_values(each) for each in transactions])

    def get_transaction(self, account_id: str, transaction_id: str) -> Transaction | None:
        """One purchase."""
        rows = self._connection.execute(
            f"SELECT {_TRANSACTION} FROM transactions WHERE account_id = ? AND id = ?", (account_id, transaction_id)
        )
        return _transaction(rows[0]) if rows else None

    def transactions_by_external_id(self, account_id: str, external_ids: Collection[str]) -> list[Transaction]:
        """The purchases that have these numbers already."""
        if not external_ids:
            return []
        padded = padded_list(external_ids)
        rows = self._connection.execute(
            f"SELECT {_TRANSACTION} FROM transactions WHERE account_id = ? AND external_id IN ({marks(len(padded))})",
            (account_id, *padded),
        )
        return [_transaction(row) for row in rows]

    def list_transactions(
        self, account_id: str, customer_id: str | None, external_id: str | None, before_id: str | None, limit: int
    ) -> list[Transaction]:
        """Purchases, newest first."""
        where, params = _where(
            ("account_id = ?", account_id),
            ("customer_id = ?", customer_id),
            ("external_id = ?", external_id),
            ("id < ?", before_id),
        )
        rows = self._connection.execute(
            f"SELECT {_TRANSACTION} FROM transactions WHERE {where} ORDER BY id DESC LIMIT ?", (*params, limit)
        )
        return [_transaction(row) for row in rows]

    # -- the ledger --------------------------------------------------------------------------------------------------

    def insert_entries(self, entries: Sequence[Entry]) -> None:
        """Append to the ledger."""
        self._connection.execute_many(_INSERT_ENTRY, [_entry_values(each) for each in entries])

    def insert_lots(self, lots: Sequence[tuple[Lot, int]]) -> None:
        """Store the lots of credits, each with what of it repaid debt at once."""
        self._connection.execute_many(_INSERT_LOT, [_lot_values(lot) for lot, _ in lots])
        self._connection.execute_many(
            _INSERT_ALLOCATION, [(lot.entry_id, lot.id, absorbed) for lot, absorbed in lots if absorbed]
        )

    def empty_lots(self, entry: Entry) -> None:
        """Take everything out of a customer's lots, for an entry: of the pending ones, which it cancels, or of the others."""
        before, after = ("pending", "canceled") if entry.type == "cancel_pending" else ("active", "active")
        self._connection.execute(
            "INSERT INTO allocations (entry_id, lot_id, points) SELECT CAST(? AS TEXT), id, remaining FROM lots"
            " WHERE customer_id = ? AND remaining > 0 AND status = ?",
            (entry.id, entry.customer_id, before),
        )
        self._connection.execute(
            "UPDATE lots SET remaining = 0, status = ? WHERE customer_id = ? AND remaining > 0 AND status = ?",
            (after, entry.customer_id, before),
        )

    def list_entries(self, customer_id: str, before_id: str | None, limit: int) -> list[Entry]:
        """Ledger entries, newest first."""
        where, params = _where(("customer_id = ?", customer_id), ("id < ?", before_id))
        rows = self._connection.execute(
            f"SELECT {_ENTRY} FROM ledger_entries WHERE {where} ORDER BY id DESC LIMIT ?", (*params, limit)
        )
        return [_entry(row) for row in rows]

    def list_lots(self, customer_id: str, before_id: str | None, limit: int) -> list[Lot]:
        """Lots, newest first."""
        where, params = _where(("customer_id = ?", customer_id), ("id < ?", before_id))
        rows = self._connection.execute(
            f"SELECT {_LOT} FROM lots WHERE {where} ORDER BY id DESC LIMIT ?", (*params, limit)
        )
        return [Lot(*row) for row in rows]


def _where(*conditions: tuple[str, object]) -> tuple[str, list[object]]:
    """The conditions that have a value, and their values."""
    wanted = [(clause, value) for clause, value in conditions if value is not None]
    return " AND ".join(clause for clause, _ in wanted), [value for _, value in wanted]


def _json(value: object) -> str:
    return to_json(value).decode()


def _details(customer: Customer) -> tuple[object, ...]:
    return customer.external_id, customer.email, customer.phone, customer.name, _json(customer.metadata)


def _balance_values(customer: Customer) -> tuple[object, ...]:
    balance = customer.balance
    return (
        customer.id,
        balance.available,
        balance.pending,
        balance.debt,
        balance.lifetime_earned,
        balance.lifetime_redeemed,
        customer.ledger_sequence,
        customer.event_sequence,
        customer.updated_at,
    )


def _transaction_values(transaction: Transaction) -> tuple[object, ...]:
    return (
        transaction.id,
        transaction.account_id,
        transaction.customer_id,
        transaction.external_id,
        transaction.status,
        transaction.currency,
        transaction.amount,
        _json(transaction.items),
        transaction.channel,
        transaction.location_id,
        transaction.employee_id,
        _json(transaction.metadata),
        transaction.points_earned,
        transaction.occurred_at,
        transaction.created_at,
    )


def _entry_values(entry: Entry) -> tuple[object, ...]:
    return (
        entry.id,
        entry.customer_id,
        entry.sequence,
        entry.type,
        entry.points,
        entry.balance_after,
        entry.pending_after,
        entry.source_type,
        entry.source_id,
        entry.actor,
        _json(entry.rules),
        entry.occurred_at,
        entry.created_at,
        entry.part,
        entry.reverses_entry_id,
        entry.reason_code,
        entry.note,
    )


def _lot_values(lot: Lot) -> tuple[object, ...]:
    return (
        lot.id,
        lot.customer_id,
        lot.entry_id,
        lot.original,
        lot.remaining,
        lot.earned_at,
        lot.activates_at,
        lot.expires_at,
        lot.status,
        lot.created_at,
    )


def _customer(row: Row, program: Program) -> Customer:
    values = [*row[:9], Balance(*row[9:14]), *row[14:]]
    values[6], values[8] = json.loads(row[6]), program.tier(row[8])
    return Customer(*values)


def _transaction(row: Row) -> Transaction:
    values = list(row)
    values[7], values[11] = json.loads(row[7]), json.loads(row[11])
    return Transaction(*values)


def _entry(row: Row) -> Entry:
    values = list(row)
    values[10] = tuple(json.loads(row[10]))
    return Entry(*values)


def _program(rules: str) -> Program:
    raw = json.loads(rules)
    tiers = tuple(Tier(**tier) for tier in raw.pop("tiers"))
    return Program(**raw | {"earn": EarnRule(**raw["earn"]), "tiers": tiers})
