"""Customers, with their balances and sequences. Satisfies `loyalty.ports.CustomerStore`."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.loyalty.entities import Customer, CustomerFilter
from loyalpro.loyalty.ledger import Balance
from loyalpro.loyalty.program import ProgramMissing
from loyalpro.loyalty.tiers import Tier
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import FLAG, JSON, JSON_TUPLE, Codec, RowMapper
from loyalpro.storage.sql import FIRST, Condition, flat, keys_table, marks, padded_keys, padded_list, where
from loyalpro.storage.tables.programs import ProgramTables
from loyalpro.storage.tables.tails import recent_with_tail

_DETAILS: Final = (
    *("external_id", "email", "email_key", "phone", "phone_key", "name", "tags", "metadata"),
    *("status", "merged_into_id", "security_changed_at"),
)
_POINTS: Final = (
    *("balance", "ledger_sequence", "event_sequence", "next_due_at"),
    *("first_purchase_at", "last_purchase_at", "updated_at"),
)
_STATE: Final = (
    *_POINTS,
    *("points_expire_at", "tier", "tier_since", "tier_review_at", "tier_locked_until", "tier_lock_reason"),
    *("earning_blocked", "redeeming_blocked"),
)

_INSERTED_AT_ONCE: Final = 256
_AFTER_ALL: Final = "\U0010ffff"
"""The last character there is: a text followed by it stands behind all texts that begin with the text."""


@lru_cache(maxsize=1_024)
def _mapper(tiers: tuple[Tier, ...]) -> RowMapper[Customer]:
    """The mapper of the customers of an account: a row has the id of a tier, and the record has the tier."""
    by_id = {tier.id: tier for tier in tiers}
    return RowMapper(
        Customer,
        "customers",
        codecs={
            "metadata": JSON,
            "tags": JSON_TUPLE,
            "tier": Codec(attrgetter("id"), lambda id_: _tier(by_id, id_)),
            "earning_blocked": FLAG,
            "redeeming_blocked": FLAG,
        },
        columns={"tier": "tier_id"},
        parts={"balance": Balance},
    )


class CustomerTables:
    """Customers, inside one transaction."""

    def __init__(self, connection: Connection, programs: ProgramTables) -> None:
        self._connection = connection
        self._programs = programs

    def insert(self, customers: Sequence[Customer]) -> set[str]:
        """Store new customers of one account; the ids of those whose external ids are free. Of two equal ones the first is.

        Rows are inserted in the order of the external ids, because an insert waits for another transaction that inserts the
        same one, and two transactions in different orders would wait for each other.
        """
        mapper = self._mapper(customers[0].account_id)
        ordered = sorted(customers, key=lambda each: each.external_id or "")
        stored: set[str] = set()
        for start in range(0, len(ordered), _INSERTED_AT_ONCE):
            chunk = ordered[start : start + _INSERTED_AT_ONCE]
            rows = self._connection.execute(
                f"{mapper.insert_many(len(chunk))} ON CONFLICT (account_id, external_id) DO NOTHING RETURNING id",
                flat(mapper.values(each) for each in chunk),
            )
            stored |= {id_ for (id_,) in rows}
        self._insert_tags([each for each in customers if each.id in stored])
        return stored

    def get(self, account_id: str, customer_id: str) -> Customer | None:
        """One customer, also a deleted one."""
        found = self.select(account_id, "WHERE account_id = ? AND id = ?", (account_id, customer_id))
        return found[0] if found else None

    def candidates(self, account_id: str, wanted: CustomerFilter, before_id: str | None, limit: int) -> list[str]:
        """The ids of active customers, newest first, that match one of the filters: the one that fewest customers match."""
        if wanted.external_id is not None:
            return [
                id_ for id_ in self.ids_of(account_id, [wanted.external_id]) if before_id is None or id_ < before_id
            ]
        for column, key in (("email_key", wanted.email_key), ("phone_key", wanted.phone_key)):
            if key is not None:
                return self._ids(account_id, (f"{column} = ?", key), before_id, limit)
        if wanted.tag is not None:
            return self._tagged(account_id, wanted.tag, before_id, limit)
        if wanted.tier_id is not None:
            return self._in_tier(account_id, wanted.tier_id, before_id, limit)
        return self._ids(account_id, "", before_id, limit)

    def matching(self, account_id: str, ids: Sequence[str], wanted: CustomerFilter, limit: int) -> list[Customer]:
        """The active ones of these customers that match every filter, newest first."""
        padded = padded_list(ids)
        clause, params = where(
            "status = 'active'",
            ("external_id = ?", wanted.external_id),
            ("email_key = ?", wanted.email_key),
            ("phone_key = ?", wanted.phone_key),
            ("tier_id = ?", wanted.tier_id),
            ("updated_at >= ?", wanted.updated_since),
            ("EXISTS (SELECT 1 FROM customer_tags t WHERE t.customer_id = customers.id AND t.tag = ?)", wanted.tag),
        )
        rest = f"{clause} AND id IN ({marks(len(padded))}) ORDER BY id DESC LIMIT ?"
        return self.select(account_id, rest, (*params, *padded, limit))

    def named(self, account_id: str, starts: Collection[str], limit: int) -> list[str]:
        """The ids of active customers whose names begin with one of these texts in lower case, by name."""
        return [id_ for start in starts for id_ in self._named(account_id, start, limit)][:limit]

    def merged_into(self, customer_id: str) -> list[str]:
        """The ids of the customers that were merged into this one."""
        rows = self._connection.execute(
            "SELECT id FROM customers WHERE merged_into_id = ? AND status = 'merged' ORDER BY id", (customer_id,)
        )
        return [id_ for (id_,) in rows]

    def ids_of(self, account_id: str, external_ids: Collection[str]) -> list[str]:
        """The ids of the active customers that have these external ids, without a lock."""
        keys = padded_keys(account_id, external_ids)
        rows = self._connection.execute(
            f"SELECT c.id {keys_table(len(keys))} customers c"
            " WHERE c.account_id = keys.column1 AND c.external_id = keys.column2 AND c.status = 'active'",
            flat(keys),
        )
        return [id_ for (id_,) in rows]

    def due(self, now: UnixMs, after: tuple[UnixMs, str] | None, limit: int) -> list[tuple[str, str, UnixMs]]:
        """Account, id and `next_due_at` of customers that are due, by `next_due_at` and id: those after such a pair."""
        return self._connection.execute(
            "SELECT account_id, id, next_due_at FROM customers WHERE next_due_at <= ? AND (next_due_at, id) > (?, ?)"
            " AND status = 'active' ORDER BY next_due_at, id LIMIT ?",
            (now, *(after or FIRST), limit),
        )

    def accounts_to_review(self, now: UnixMs, first: str) -> list[str]:
        """The accounts with customers whose `tier_review_at` has passed, from `first` on, in their order."""
        rows = self._connection.execute(
            "SELECT p.account_id FROM programs p WHERE p.account_id >= ? AND EXISTS (SELECT 1 FROM customers c"
            " WHERE c.account_id = p.account_id AND c.tier_review_at <= ?) ORDER BY p.account_id",
            (first, now),
        )
        return [account_id for (account_id,) in rows]

    def to_review(
        self, account_id: str, deadline: UnixMs, after: tuple[UnixMs, str] | None, limit: int
    ) -> list[tuple[str, UnixMs]]:
        """Id and `tier_review_at` of customers that are to be reviewed by a deadline, by both: those after such a pair."""
        return self._connection.execute(
            "SELECT id, tier_review_at FROM customers WHERE account_id = ? AND tier_review_at <= ?"
            " AND (tier_review_at, id) > (?, ?) AND status = 'active' ORDER BY tier_review_at, id LIMIT ?",
            (account_id, deadline, *(after or FIRST), limit),
        )

    def ids_after(self, account_id: str, after_id: str, limit: int) -> list[str]:
        """The ids of active customers after an id, in their order."""
        rows = self._connection.execute(
            "SELECT id FROM customers WHERE account_id = ? AND id > ? AND status = 'active' ORDER BY id LIMIT ?",
            (account_id, after_id, limit),
        )
        return [id_ for (id_,) in rows]

    def lock(self, account_id: str, customer_ids: Collection[str], *, with_deleted: bool = False) -> list[Customer]:
        """The active ones of these customers, locked in the order of their ids; `with_deleted`, the deleted ones too.

        The expression `|| ''` keeps PostgreSQL from the index of the account, with which it would read all its customers.
        """
        padded = padded_list(customer_ids)
        status = "status IN ('active', 'deleted')" if with_deleted else "status = 'active'"
        clause = f"WHERE account_id || '' = ? AND {status} AND id IN ({marks(len(padded))})"
        lock = self._connection.dialect.for_update
        return self.select(account_id, f"{clause} ORDER BY id {lock}", (account_id, *padded))

    def update_details(self, customer: Customer) -> bool:
        """Store what is neither points nor a sequence. False when another customer of the account has this external id."""
        if customer.external_id is not None and self._is_taken(customer):
            return False
        mapper = self._mapper(customer.account_id)
        self._connection.execute(
            f"UPDATE customers SET {mapper.assignments(*_DETAILS)} WHERE id = ?",
            (*mapper.values_of(customer, *_DETAILS), customer.id),
        )
        self._connection.execute("DELETE FROM customer_tags WHERE customer_id = ?", (customer.id,))
        self._insert_tags([customer])
        return True

    def update_points(self, customers: Sequence[Customer]) -> None:
        """Store balances, sequences and the times of purchases, which is all that most purchases change.

        SQLite writes the rows of every index whose columns an UPDATE names, also where no value changes.
        """
        self._update(customers, *_POINTS)

    def update_state(self, customers: Sequence[Customer]) -> None:
        """Store all that follows from what happens: also the tier, its dates and blocks."""
        self._update(customers, *_STATE)

    def _update(self, customers: Sequence[Customer], *names: str) -> None:
        if not customers:
            return
        mapper = self._mapper(customers[0].account_id)
        rows = padded_list([(each.id, *mapper.values_of(each, *names)) for each in customers])
        sql = mapper.update_many("id", *names)
        values = marks(len(rows), f"({marks(len(rows[0]))})")
        self._connection.execute_many(sql.format(rows=values), [flat(rows)])

    def _ids(self, account_id: str, condition: Condition, before_id: str | None, limit: int) -> list[str]:
        clause, params = where(("account_id = ?", account_id), "status = 'active'", condition, ("id < ?", before_id))
        rows = self._connection.execute(f"SELECT id FROM customers {clause} ORDER BY id DESC LIMIT ?", (*params, limit))
        return [id_ for (id_,) in rows]

    def _named(self, account_id: str, start: str, limit: int) -> list[str]:
        key = self._connection.dialect.name_key
        rows = self._connection.execute(
            f"SELECT id FROM customers WHERE account_id = ? AND name IS NOT NULL AND {key} >= ? AND {key} < ?"
            f" AND status = 'active' ORDER BY {key}, id LIMIT ?",
            (account_id, start, start + _AFTER_ALL, limit),
        )
        return [id_ for (id_,) in rows]

    def recent_with_tail(self, query: RecentTail) -> list[str]:
        """The ids of the customers that a tail names, newest first."""
        return recent_with_tail(self._connection, "customers", "cus", query)

    def _in_tier(self, account_id: str, tier_id: str, before_id: str | None, limit: int) -> list[str]:
        """The tier is searched as a range that orders the rows, too, so that only the index of the tiers has their order.

        With `tier_id = ?`, PostgreSQL would read all customers in the order of their ids when most of them are in one tier.
        """
        end = ("(tier_id, id) < (?, ?)", (tier_id, before_id)) if before_id else ("tier_id <= ?", (tier_id,))
        rows = self._connection.execute(
            f"SELECT id FROM customers WHERE account_id = ? AND tier_id >= ? AND {end[0]} AND status = 'active'"
            " ORDER BY tier_id DESC, id DESC LIMIT ?",
            (account_id, tier_id, *end[1], limit),
        )
        return [id_ for (id_,) in rows]

    def _tagged(self, account_id: str, tag: str, before_id: str | None, limit: int) -> list[str]:
        clause, params = where(("account_id = ?", account_id), ("tag = ?", tag), ("customer_id < ?", before_id))
        rows = self._connection.execute(
            f"SELECT customer_id FROM customer_tags {clause} ORDER BY customer_id DESC LIMIT ?", (*params, limit)
        )
        return [id_ for (id_,) in rows]

    def _insert_tags(self, customers: Sequence[Customer]) -> None:
        self._connection.execute_many(
            "INSERT INTO customer_tags (account_id, tag, customer_id) VALUES (?, ?, ?)",
            [(each.account_id, tag, each.id) for each in customers for tag in each.tags],
        )

    def _is_taken(self, customer: Customer) -> bool:
        rows = self._connection.execute(
            "SELECT 1 FROM customers WHERE account_id = ? AND external_id = ? AND id <> ?",
            (customer.account_id, customer.external_id, customer.id),
        )
        return bool(rows)

    def select(self, account_id: str, rest: str, params: Sequence[object]) -> list[Customer]:
        """The customers of an account that the rest of a SELECT finds."""
        mapper = self._mapper(account_id)
        return mapper.records(self._connection.execute(f"SELECT {mapper.columns()} FROM customers {rest}", params))

    def _mapper(self, account_id: str) -> RowMapper[Customer]:
        program = self._programs.get(account_id)
        return _mapper((*program.tiers, *program.retired_tiers))


def _tier(tiers: Mapping[str, Tier], tier_id: str) -> Tier:
    """A tier by its id. Raises `ProgramMissing`."""
    found = tiers.get(tier_id)
    if found is None:
        raise ProgramMissing(f"The program has no tier {tier_id}.")
    return found
