"""What differs between the SQL of SQLite and the SQL of PostgreSQL, as one value.

A statement of the tables is written once and takes its few different words from here. A lock clause is empty on SQLite,
which runs one writing transaction at a time: `DialectSql(lambda dialect: f"SELECT ... WHERE id = ? {dialect.for_update}")`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Dialect:
    """The differences, each as a piece of SQL text without surrounding spaces."""

    name: Literal["sqlite", "postgres"]
    for_update: str
    """The lock clause of rows that this transaction changes."""
    for_no_key_update: str
    """The lock clause of rows that this transaction locks, while others may insert rows that refer to them."""
    for_share: str
    """The lock clause of rows that nothing may change before this transaction ends."""
    skip_locked: str
    """Stands behind a lock clause: a row that another transaction has locked is left out instead of waited for."""
    server_now: str | None
    """A query for the clock of the database server in Unix milliseconds; None where the process has the only clock."""
    lock_timeout: str | None
    """A statement that limits how long later statements of the transaction wait for a lock, with `{limit}` in milliseconds;
    None where a transaction never waits for the lock of a row."""
    pending_deliveries: str
    """The smallest table that holds every pending delivery."""
    is_pending: str
    """The condition under which a row `d` of `pending_deliveries` is a pending delivery."""
    event_order: str
    """The columns of `events` that put them into the order of their commits."""
    customer_event_order: str
    """The columns of `events` that put the events of one customer into the order of their commits."""
    is_settled_event: str
    """The condition under which no event can still appear in front of this one; empty where it holds for every event.

    PostgreSQL assigns positions before the commit, so a reader stops before the oldest open transaction: each transaction
    that may still commit has an id of at least `pg_snapshot_xmin`, and all below it have ended. `lasting_transaction_id` maps
    the ids of the server to those of the order of events, also after the database was moved to another server. SQLite has one
    writer, so its positions appear in order.
    """

    name_key: str
    """The name of a customer in lower case, as the index by name has it. SQLite changes the letters of ASCII only."""

    @property
    def is_postgres(self) -> bool:
        """Whether the database is PostgreSQL."""
        return self.name == "postgres"

    def for_update_of(self, alias: str) -> str:
        """`for_update` for the rows of one table of a join."""
        return _of(self.for_update, alias)

    def for_share_of(self, alias: str) -> str:
        """`for_share` for the rows of one table of a join."""
        return _of(self.for_share, alias)

    def among(self, subquery: str) -> str:
        """The right side of `key <right side>`: true for the few keys that `subquery` returns.

        PostgreSQL estimates that an array is short and uses the index; of a subquery it may estimate that it returns as
        many rows as the table has.
        """
        return f"= ANY (ARRAY({subquery}))" if self.is_postgres else f"IN ({subquery})"


def _of(clause: str, alias: str) -> str:
    return f"{clause} OF {alias}" if clause else ""


SQLITE: Final = Dialect(
    name="sqlite",
    for_update="",
    for_no_key_update="",
    for_share="",
    skip_locked="",
    server_now=None,
    lock_timeout=None,
    pending_deliveries="deliveries",
    is_pending="d.status = 'pending'",
    event_order="position",
    customer_event_order="sequence",
    is_settled_event="",
    name_key="lower(name)",
)

POSTGRES: Final = Dialect(
    name="postgres",
    for_update="FOR UPDATE",
    for_no_key_update="FOR NO KEY UPDATE",
    for_share="FOR SHARE",
    skip_locked="SKIP LOCKED",
    server_now="SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    pending_deliveries="deliveries_owed",  # a partition: a condition on its key is what PostgreSQL would search the key by
    is_pending="TRUE",
    lock_timeout="SET LOCAL lock_timeout = {limit}",
    event_order="transaction_id, position",
    customer_event_order="transaction_id, position",
    is_settled_event="transaction_id < lasting_transaction_id(pg_snapshot_xmin(pg_current_snapshot()))",
    name_key='lower(name) COLLATE "C"',
)


class DialectSql:
    """A statement that is written once, and built once for each dialect: `statement[connection.dialect]` is its text."""

    def __init__(self, build: Callable[[Dialect], str]) -> None:
        self._texts = {each.name: build(each) for each in (SQLITE, POSTGRES)}

    def __getitem__(self, dialect: Dialect) -> str:
        return self._texts[dialect.name]
