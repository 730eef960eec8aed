"""Inserts old events, deliveries and attempts, with the ids and times that they would have had."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loyalpro.kernel.clock import UnixMs, VirtualClock
from loyalpro.kernel.ids import IdFactory, delivery_id
from loyalpro.loyalty.expiry import NEVER
from loyalpro.loyalty.program import default_program
from loyalpro.storage.connection import DriverConnection
from loyalpro.storage.postgres.connection import PostgresConnection
from loyalpro.storage.sqlite.connection import SqliteConnection
from loyalpro.storage.tables.programs import ProgramTables
from loyalpro.storage.vault import Vault

ACCOUNT = "acct_01kat6b8z00000000000000000"
VAULT = Vault(["a key for tests of enough characters"], random.Random(1).randbytes)
_EVENT = "id, account_id, type, customer_id, sequence, created_at, owed, body"
_DELIVERY = (
    "id, account_id, endpoint_id, event_id, event_type, status, attempts, due_at, first_attempt_at, customer_id, sequence,"
    " outcome, created_at, finished_at"
)
_ATTEMPT = (
    "delivery_id, number, started_at, outcome, detail, request_headers, response_status, response_headers,"
    " response_excerpt, response_truncated"
)
_REFUND = (
    "id, account_id, transaction_id, customer_id, external_id, fingerprint, amount, items, actor, points_clawed_back,"
    " points_restored, points_shortfall, points_expired_before, occurred_at, created_at"
)
_TABLES_OF_PURCHASES = (
    (
        "customers",
        "id, account_id, external_id, email, email_key, metadata, status, tier_id, available, ledger_sequence, created_at, updated_at",
    ),
    (
        "transactions",
        (
            "id, account_id, customer_id, external_id, status, currency, amount, items, metadata, points_earned, occurred_at,"
            " created_at"
        ),
    ),
    (
        "ledger_entries",
        (
            "id, account_id, customer_id, sequence, type, points, balance_after, pending_after, source_type, source_id, actor, rules,"
            " occurred_at, created_at"
        ),
    ),
    (
        "lots",
        "id, account_id, customer_id, entry_id, transaction_id, original, remaining, earned_at, expires_at, status, created_at",
    ),
    ("idempotency_keys", "account_id, key, fingerprint, status_code, body, created_at"),
)
Rows = list[tuple[object, ...]]


def connect(url: str) -> DriverConnection:
    """A writing connection outside of the tested program."""
    if url.startswith("sqlite"):
        return SqliteConnection(Path(url.removeprefix("sqlite:///")), read_only=False)
    return PostgresConnection(url, read_only=False)


_kept: dict[str, list[DriverConnection]] = {}
"""For each URL in a `keeping_connections`, its connections that no transaction uses."""


@contextmanager
def keeping_connections(url: str) -> Iterator[None]:
    """Let each `transaction` in the block use the connection of the one before.

    On PostgreSQL a new connection is a process that has to learn every table and every plan.
    """
    _kept[url] = []
    try:
        yield
    finally:
        for connection in _kept.pop(url):
            connection.close()


@contextmanager
def transaction(url: str) -> Iterator[DriverConnection]:
    """A connection in a transaction, which commits at the end of the block."""
    with undone(url) as connection:
        yield connection
        connection.commit()


@contextmanager
def undone(url: str) -> Iterator[DriverConnection]:
    """A connection in a transaction, which is rolled back at the end of the block."""
    try:
        connection = _kept[url].pop()
    except LookupError:
        connection = connect(url)
    try:
        connection.begin()
        yield connection
    finally:
        connection.rollback()
        if url in _kept:
            _kept[url].append(connection)
        else:
            connection.close()


def query(url: str, sql: str, *params: object) -> list[tuple[Any, ...]]:
    """Run one statement and commit; its rows."""
    with transaction(url) as connection:
        return connection.execute(sql, params)


def count(url: str, table: str, where: str = "1 = 1") -> int:
    """The number of rows of a table."""
    return int(query(url, f"SELECT COUNT(*) FROM {table} WHERE {where}")[0][0])


def insert(url: str, table: str, columns: str, rows: Rows) -> None:
    """Insert many rows at once."""
    if url.startswith("sqlite"):
        with transaction(url) as connection:
            marks = ", ".join("?" * len(columns.split(",")))
            connection.execute_many(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
        return
    with transaction(url) as connection:
        assert isinstance(connection, PostgresConnection)
        connection.flush()
        with connection._session.cursor().copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row(row)


def lower_transaction_counter(url: str) -> None:
    """Turn a PostgreSQL database into a dump restored on a server that has run 900,000,000 transactions fewer."""
    with transaction(url) as connection:
        connection.run_script(
            "ALTER TABLE events DISABLE TRIGGER events_are_frozen;"
            "UPDATE events SET transaction_id = (transaction_id::text::bigint + 900000000)::text::xid8;"
            "ALTER TABLE events ENABLE TRIGGER events_are_frozen;"
            "UPDATE replays SET cursor = concat_ws('/', split_part(cursor, '/', 1)::bigint + 900000000,"
            " split_part(cursor, '/', 2), split_part(cursor, '/', 3)::bigint + 900000000) WHERE status = 'running'"
        )


class History:
    """Inserts the history of one account, endpoint by endpoint."""

    def __init__(self, url: str, now: UnixMs, seed: int = 1) -> None:
        self.url = url
        self.now = now
        self._clock = VirtualClock(now)
        self._purchases = 0
        self._refunds = 0
        self.ids = IdFactory(self._clock, random.Random(seed))
        with transaction(url) as connection:
            connection.execute(
                "INSERT INTO accounts (id, name, created_at) VALUES (?, 'A', 1) ON CONFLICT DO NOTHING", (ACCOUNT,)
            )

    def endpoint(self, status: str = "enabled", ordering: str = "none") -> str:
        """Insert an endpoint and its secret; the id of the endpoint."""
        id_ = self.ids.new("we")
        sealed = VAULT.seal("whsec_c2VjcmV0", owner=f"{ACCOUNT}/{id_}")
        with transaction(self.url) as connection:
            connection.execute(
                "INSERT INTO endpoints (id, account_id, url, types, ordering, headers, status, created_at, updated_at)"
                " VALUES (?, ?, 'https://example.com/hook', '*', ?, '{}', ?, ?, ?)",
                (id_, ACCOUNT, ordering, status, self.now, self.now),
            )
            connection.execute(
                "INSERT INTO endpoint_secrets (endpoint_id, version, sealed, created_at, promoted_at) VALUES (?, 1, ?, ?, ?)",
                (id_, sealed, self.now, self.now),
            )
        return id_

    def events(
        self,
        endpoint_id: str,
        number: int,
        *,
        at: UnixMs,
        status: str = "succeeded",
        customer_id: str | None = None,
        first_sequence: int = 1,
        ordered: bool = False,
        body: Callable[[int], bytes] = lambda n: b'{"n":%d}' % n,
        excerpt: bytes = b"thanks",
    ) -> list[str]:
        """Insert events of the instant `at`, each with a delivery to the endpoint; the event ids.

        A delivery that is not pending has one attempt.
        """
        ids = IdFactory(VirtualClock(at), random.Random(f"{at} {endpoint_id} {status} {first_sequence}"))
        found = [ids.new("evt") for _ in range(number)]
        done = status != "pending"
        rows = [(id_, delivery_id(id_, endpoint_id), n + first_sequence) for n, id_ in enumerate(found)]
        events: Rows = [
            (id_, ACCOUNT, "points.earned", customer_id, seq if customer_id else None, at, 1, body(seq))
            for id_, _, seq in rows
        ]
        deliveries: Rows = []
        for id_, dlv, seq in rows:
            due_at = None if ordered and seq > first_sequence else at
            queue = (customer_id, seq) if ordered else (None, None)
            state = (status, int(done), due_at, at if done else None, *queue, "succeeded" if done else None)
            deliveries.append((dlv, ACCOUNT, endpoint_id, id_, "points.earned", *state, at, at if done else None))
        attempts: Rows = [(dlv, 1, at, "succeeded", "", "[]", 200, "[]", excerpt, 0) for _, dlv, _ in rows if done]
        insert(self.url, "events", _EVENT, events)
        insert(self.url, "deliveries", _DELIVERY, deliveries)
        insert(self.url, "attempts", _ATTEMPT, attempts)
        return found

    def purchases(self, number: int) -> None:
        """Insert so many customers, each with one purchase, its ledger entry, its lot, and the response to its request.

        The n-th customer is `customer-<n>` to the merchant, its purchase `purchase-<n>`, and the key of the request `key-<n>`.
        """
        at, tier = self.now, self._lowest_tier()
        rows: dict[tuple[str, str], Rows] = {table: [] for table in _TABLES_OF_PURCHASES}
        for n in range(self._purchases, self._purchases + number):
            cus, txn, entry = self.ids.new("cus"), self.ids.new("txn"), self.ids.new("led")
            of_one = (
                (cus, ACCOUNT, f"customer-{n}", *[f"{n}@example.com"] * 2, "{}", "active", tier, 10, 1, at, at),
                (txn, ACCOUNT, cus, f"purchase-{n}", "completed", "EUR", 1_000, "[]", "{}", 10, at, at),
                (entry, ACCOUNT, cus, 1, "earn", 10, 10, 0, "transaction", txn, "test", "[]", at, at),
                (self.ids.new("lot"), ACCOUNT, cus, entry, txn, 10, 10, at, NEVER, "active", at),
                (ACCOUNT, f"key-{n}", b"f", 201, VAULT.seal("{}", owner=f"{ACCOUNT}/idempotency/key-{n}"), at),
            )
            for table, row in zip(rows.values(), of_one, strict=True):
                table.append(row)
        for (name, columns), values in rows.items():
            insert(self.url, name, columns, values)
        self._purchases += number

    def refunds(self, number: int) -> None:
        """Insert a refund for each of the next so many purchases, and an allocation of their lots; no balance changes.

        The refund of `purchase-<n>` is `refund-<n>` to the merchant.
        """
        sql = (
            "SELECT t.id, t.customer_id, l.id, t.external_id FROM transactions t JOIN lots l ON l.transaction_id = t.id"
            " WHERE t.external_id IS NOT NULL ORDER BY t.id LIMIT ? OFFSET ?"
        )
        refunds: Rows = []
        allocations: Rows = []
        for txn, cus, lot, name in query(self.url, sql, number, self._refunds):
            external_id = name.replace("purchase", "refund")
            points = (0, 0, 0, 0)
            refunds.append(
                (
                    self.ids.new("ref"),
                    ACCOUNT,
                    txn,
                    cus,
                    external_id,
                    b"f",
                    100,
                    "[]",
                    "test",
                    *points,
                    self.now,
                    self.now,
                )
            )
            allocations.append((self.ids.new("led"), lot, "claw", 1))
        self._refunds += number
        insert(self.url, "refunds", _REFUND, refunds)
        insert(self.url, "allocations", "entry_id, lot_id, kind, points", allocations)

    def _lowest_tier(self) -> str:
        """The id of the lowest tier of the account's program, which is made when it is missing."""
        with transaction(self.url) as connection:
            programs = ProgramTables(connection)
            if not connection.execute("SELECT 1 FROM programs WHERE account_id = ?", (ACCOUNT,)):
                programs.insert(ACCOUNT, default_program(self.ids), actor="system:bootstrap", now=self.now)
            return programs.get(ACCOUNT).tiers[0].id
