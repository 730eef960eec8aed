"""Reads the database at the end of a run. No other file of chaos knows the product's tables.

It reads with own drivers (for SQLite, the one in Python), after every process of the product has ended.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

Rows = Callable[[str], Iterable[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Event:
    """An event and its stored body. `endpoint_count`: how many endpoints were subscribed, as the product counted them."""

    id: str
    type: str
    customer_id: str | None
    sequence: int | None
    body: bytes
    endpoint_count: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint, with the status that the API shows.

    `attempts`: number -> outcome. `requests`: number -> how many requests the attempt sent, 0 when that is unknown.
    """

    id: str
    event_id: str
    endpoint_id: str
    status: str
    reason: str | None
    attempt_count: int
    attempts: dict[int, str]
    requests: dict[int, int]


@dataclass(frozen=True, slots=True)
class Customer:
    """A balance, and the sums of its ledger."""

    id: str
    available: int
    debt: int
    entry_points: int
    entry_count: int
    last_entry: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """A recorded purchase; `ref` is the producer's name for it."""

    id: str
    ref: str
    customer_id: str
    points: int


@dataclass(slots=True)
class Snapshot:
    """All rows that the checker needs."""

    events: dict[str, Event] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)
    customers: dict[str, Customer] = field(default_factory=dict)


def read(url: str) -> Snapshot:
    """Read a database that no process uses."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return _snapshot(connection.execute)
    with psycopg.connect(url) as session:
        return _snapshot(lambda sql: session.execute(sql.encode()))


def export(url: str, folder: Path) -> None:
    """Copy the database into a folder: SQLite's file, or PostgreSQL's tables as CSV."""
    if url.startswith("sqlite:///"):
        here, there = sqlite3.connect(url.removeprefix("sqlite:///")), sqlite3.connect(folder / "database.sqlite")
        with closing(here), closing(there):
            here.backup(there)
        return
    with psycopg.connect(url) as session, session.cursor() as cursor:
        for table in _TABLES:
            sql = f"COPY (SELECT * FROM {table}) TO STDOUT WITH (FORMAT csv, HEADER)".encode()
            with (folder / f"{table}.csv").open("wb") as file, cursor.copy(sql) as rows:
                file.writelines(bytes(each) for each in rows)


def _snapshot(rows: Rows) -> Snapshot:
    return Snapshot(
        events={
            id_: Event(id_, type_, customer_id, sequence, bytes(body), endpoint_count)
            for id_, type_, customer_id, sequence, body, endpoint_count in rows(_EVENTS)
        },
        deliveries=_deliveries(rows),
        transactions=[
            Transaction(id_, json.loads(metadata).get("ref", ""), customer_id, points)
            for id_, metadata, customer_id, points in rows(_TRANSACTIONS)
        ],
        customers={row[0]: Customer(row[0], *map(int, row[1:])) for row in rows(_CUSTOMERS)},
    )


def _deliveries(rows: Rows) -> dict[str, Delivery]:
    attempts: dict[str, dict[int, str]] = {}
    requests: dict[str, dict[int, int]] = {}
    for delivery_id, number, outcome, total_ms, listed in rows(_ATTEMPTS):
        attempts.setdefault(delivery_id, {})[number] = outcome
        sent = len(json.loads(listed)) if listed else int(total_ms is not None)
        requests.setdefault(delivery_id, {})[number] = sent
    endpoints = {id_: (status, deleted) for id_, status, deleted in rows(_ENDPOINTS)}
    return {
        id_: Delivery(
            id_,
            event_id,
            endpoint_id,
            _visible(status, *endpoints[endpoint_id]),
            reason,
            attempt_count,
            attempts.get(id_, {}),
            requests.get(id_, {}),
        )
        for id_, event_id, endpoint_id, status, reason, attempt_count in rows(_DELIVERIES)
    }


def _visible(stored: str, endpoint_status: str, deleted_at: int | None) -> str:
    """A pending delivery is canceled once its endpoint is deleted, and parked while it is not enabled."""
    if stored != "pending":
        return stored
    if deleted_at is not None:
        return "canceled"
    return "pending" if endpoint_status == "enabled" else "parked"


_TABLES = ("events", "endpoints", "deliveries", "attempts", "leases", "transactions", "customers", "ledger_entries")
_EVENTS = "SELECT id, type, customer_id, sequence, body, owed FROM events"
_ENDPOINTS = "SELECT id, status, deleted_at FROM endpoints"
_DELIVERIES = "SELECT id, event_id, endpoint_id, status, outcome, attempts FROM deliveries"
_ATTEMPTS = "SELECT delivery_id, number, outcome, total_ms, requests FROM attempts"
_TRANSACTIONS = "SELECT id, metadata, customer_id, points_earned FROM transactions"
_CUSTOMERS = """
SELECT c.id, c.available, c.debt, COALESCE(SUM(e.points), 0), COUNT(e.id), COALESCE(MAX(e.sequence), 0)
FROM customers c LEFT JOIN ledger_entries e ON e.customer_id = c.id GROUP BY c.id, c.available, c.debt
"""
