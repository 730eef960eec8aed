"""Rows of customers in every table: which tables have them, and rows that a test plants."""

from dataclasses import dataclass
from typing import Any, Final

from loyalpro.storage.connection import Connection
from support.history import query, transaction

_SQLITE_COLUMNS: Final = """
SELECT m.name, c.name, c.type, c."notnull" = 1 AND c.dflt_value IS NULL FROM sqlite_master m
JOIN pragma_table_info(m.name) c WHERE m.type = 'table'
"""
_POSTGRES_COLUMNS: Final = """
SELECT c.relname::text, a.attname::text, upper(format_type(a.atttypid, NULL)), a.attnotnull AND NOT a.atthasdef
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
    AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum
"""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    required: bool
    """Whether a row needs a value that the database does not give it."""


def columns(url: str) -> dict[str, list[Column]]:
    """Every table and its columns."""
    with transaction(url) as connection:
        return columns_on(connection)


def columns_on(connection: Connection) -> dict[str, list[Column]]:
    """Every table and its columns."""
    sql = _POSTGRES_COLUMNS if connection.dialect.is_postgres else _SQLITE_COLUMNS
    found: dict[str, list[Column]] = {}
    for table, name, type_, required in connection.execute(sql):
        found.setdefault(table, []).append(Column(name, type_, bool(required)))
    return found


def tables_of_customers(url: str) -> set[str]:
    """The tables that have the id of a customer in a column of that name."""
    return {table for table, known in columns(url).items() if "customer_id" in {each.name for each in known}}


def occurrences(url: str, value: str) -> dict[str, int]:
    """In how many rows of each table a value stands, in any column, as all of its text."""
    found: dict[str, int] = {}
    text = "CAST({} AS TEXT)" if url.startswith("sqlite") else "{}::text"
    for table, known in columns(url).items():
        where = " OR ".join(f"{text.format(each.name)} = ?" for each in known)
        [(number,)] = query(url, f"SELECT COUNT(*) FROM {table} WHERE {where}", *[value] * len(known))
        if number:
            found[table] = number
    return found


def plant(url: str, table: str, customer_id: str, **values: Any) -> None:
    """Insert a row of a customer. Columns that need a value get one of their type."""
    [(account_id,)] = query(url, "SELECT account_id FROM customers WHERE id = ?", customer_id)
    known = {"customer_id": customer_id, "account_id": account_id, "id": f"{table}-{customer_id}"} | values
    row = {each.name: known.get(each.name, _value(each)) for each in columns(url)[table] if _is_set(each, known)}
    marks = ", ".join("?" * len(row))
    query(url, f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", *row.values())


def plant_for_all(connection: Connection, table: str, **values: str) -> None:
    """Insert a row for each customer. Columns that need a value get one of their type."""
    literals = {name: f"'{value}'" for name, value in values.items()}
    known = {"customer_id": "id", "account_id": "account_id", "id": f"'{table}-' || id"} | literals
    row = {
        each.name: known.get(each.name, _literal(connection, each))
        for each in columns_on(connection)[table]
        if _is_set(each, known)
    }
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) SELECT {', '.join(row.values())} FROM customers")


def _literal(connection: Connection, column: Column) -> str:
    value = _value(column)
    if isinstance(value, bytes):
        return "'\\xab'::bytea" if connection.dialect.is_postgres else "x'ab'"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _is_set(column: Column, known: dict[str, Any]) -> bool:
    return column.required or column.name in known


def _value(column: Column) -> Any:
    if column.type in ("TEXT", "CHARACTER VARYING"):
        return "x"
    if column.type in ("BLOB", "BYTEA"):
        return b"\xab"
    return 0.5 if column.type in ("REAL", "DOUBLE PRECISION") else 1


OTHER_TABLES: Final[dict[str, dict[str, str]]] = {
    "refunds": {"items": "[]"},
    "redemptions": {"status": "redeemed"},
    "adjustments": {"lot_id": "lot_x"},
    "campaign_uses": {},
    "identity_values": {"kind": "email"},
    "churn_scores": {"level": "low"},
    "fraud_cases": {"status": "confirmed", "measurement": "{}", "evidence": "[]", "action": "flag", "severity": "low"},
}
"""The tables beside those of purchases, with the values that their constraints want."""


def plant_everything(url: str, customer_id: str, text: str) -> None:
    """A row in each table that requests of purchases and adjustments do not fill, with `text` in every free text of it."""
    quoted = f'["{text}"]'
    plant(url, "refunds", customer_id, items=quoted, reason=text)
    plant(url, "redemptions", customer_id, status="redeemed", captured_at=1, code="LP-1234")
    plant(url, "campaign_uses", customer_id, campaign_id=f"camp-{customer_id}", uses=2)
    plant(url, "identity_values", customer_id, kind="email", hash=customer_id.encode())
    plant(url, "churn_scores", customer_id, level="low")
    plant(
        url,
        "fraud_cases",
        customer_id,
        key_hash=customer_id.encode(),
        measurement="{}",
        evidence='["txn_1"]',
        status="confirmed",
        action="flag",
        severity="low",
        shadow=0,
        note=text,
    )
