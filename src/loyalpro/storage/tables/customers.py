"""Customers, with their balances and sequences. Satisfies `loyalty.ports.CustomerStore`."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Final

from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.ledger import Balance
from loyalpro.loyalty.program import ProgramMissing
from loyalpro.loyalty.tiers import Tier
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.rows import FLAG, JSON, JSON_TUPLE, Codec, RowMapper
from loyalpro.storage.sql import flat, keys_table, marks, padded_keys, padded_list, where
from loyalpro.storage.tables.programs import ProgramTables

_DETAILS: Final = (
    *("external_id", "email", "email_key", "phone", "phone_key", "name", "tags", "metadata"),
    *("status", "merged_into_id", "security_changed_at"),
)
_STATE: Final = (
    *("balance", "ledger_sequence", "event_sequence", "next_due_at", "points_expire_at"),
    *("first_purchase_at", "last_purchase_at", "updated_at"),
    *("tier", "tier_since", "tier_review_at", "tier_locked_until", "tier_lock_reason"),
    *("earning_blocked", "redeeming_blocked"),
)


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

    def insert(self, customer: Customer) -> bool:
        """Store a new customer. False when another customer of the account has this external id."""
        mapper = self._mapper(customer.account_id)
        return self._connection.change(f"{mapper.insert} ON CONFLICT DO NOTHING", mapper.values(customer)) == 1

    def get(self, account_id: str, customer_id: str) -> Customer | None:
        """One customer, also a deleted one."""
        found = self.select(account_id, "WHERE account_id = ? AND id = ?", (account_id, customer_id))
        return found[0] if found else None

    def list_newest(
        self, account_id: str, external_id: str | None, email: str | None, before_id: str | None, limit: int
    ) -> list[Customer]:
        """Active customers, newest first; at most one has an external id."""
        clause, params = where(
            ("account_id = ?", account_id),
            "status = 'active'",
            ("external_id = ?", external_id),
            ("email_key = ?", email and email.strip().lower()),
            ("id < ?", before_id),
        )
        order = "" if external_id else "ORDER BY id DESC"
        return self.select(account_id, f"{clause} {order} LIMIT ?", (*params, limit))

    def ids_of(self, account_id: str, external_ids: Collection[str]) -> list[str]:
        """The ids of the active customers that have these external ids, without a lock."""
        return [id_ for id_, _ in self._named(account_id, external_ids)]

    def known_external_ids(self, account_id: str, external_ids: Collection[str]) -> set[str]:
        """Those of these external ids that active customers have, without a lock."""
        return {external_id for _, external_id in self._named(account_id, external_ids)}

    def _named(self, account_id: str, external_ids: Collection[str]) -> list[Row]:
        keys = padded_keys(account_id, external_ids)
        return self._connection.execute(
            f"SELECT c.id, c.external_id {keys_table(len(keys))} customers c"
            " WHERE c.account_id = keys.column1 AND c.external_id = keys.column2 AND c.status = 'active'",
            flat(keys),
        )

    def lock(self, account_id: str, customer_ids: Collection[str]) -> list[Customer]:
        """The active ones of these customers, locked in the order of their ids.

        The expression `|| ''` keeps PostgreSQL from the index of the account, with which it would read all its customers.
        """
        padded = padded_list(customer_ids)
        clause = f"WHERE account_id || '' = ? AND status = 'active' AND id IN ({marks(len(padded))})"
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
        return True

    def update_state(self, customers: Sequence[Customer]) -> None:
        """Store balances, sequences, and all that follows from what happens: tier, dates and blocks."""
        if not customers:
            return
        mapper = self._mapper(customers[0].account_id)
        rows = padded_list([(each.id, *mapper.values_of(each, *_STATE)) for each in customers])
        sql = mapper.update_many("id", *_STATE)
        values = marks(len(rows), f"({marks(len(rows[0]))})")
        self._connection.execute_many(sql.format(rows=values), [flat(rows)])

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
