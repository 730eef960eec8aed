"""What `loyalpro doctor --ledger` finds in a database, and damage to one."""

from typing import Any

from loyalpro.loyalty.ledger_check import faults
from loyalpro.storage.connection import Connection
from loyalpro.storage.open import open_reader
from loyalpro.storage.tables.ledger_check import LedgerReader
from support.history import transaction

NOW = 1_780_000_000_000
TRIGGERS = ("events_are_frozen", "ledger_entries_are_never_changed", "ledger_entries_are_never_deleted")


def found(url: str, now: int = NOW, rows_per_page: int = 20_000) -> list[str]:
    """Every fault of a database, each behind the id of its customer."""
    connection = open_reader(url)
    try:
        reader = LedgerReader(connection, rows_per_page=rows_per_page)
        logs = [log for page in reader.pages() for log in page]
        assert [log.customer.id for log in logs] == sorted(log.customer.id for log in logs)
        assert len(logs) == reader.count()
        of_customers = [f"{log.customer.id}: {text}" for log in logs for text in faults(log, now)]
        return reader.double_cases() + of_customers
    finally:
        connection.close()


def damage(url: str, *statements: tuple[str, Any] | str) -> None:
    """Run statements that the database refuses by itself."""
    with transaction(url) as connection:
        unprotect(connection)
        for each in statements:
            sql, params = (each, ()) if isinstance(each, str) else each
            connection.execute(sql, params)


def unprotect(connection: Connection) -> None:
    """Let this transaction change what is never changed."""
    if connection.dialect.is_postgres:
        connection.execute("SET LOCAL session_replication_role = replica")
    else:
        for name in TRIGGERS:
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
