"""The audit_log table. Satisfies `accounts.ports.AuditStore`. It holds ids only, no personal data."""

from loyalpro.accounts.entities import AuditEntry
from loyalpro.jobs.periodic_job import BATCH_SIZE
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import floor
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import JSON, RowMapper
from loyalpro.storage.sql import where

_ENTRIES = RowMapper(AuditEntry, "audit_log", codecs={"changes": JSON})


class AuditTables:
    """The audit log, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, entry: AuditEntry) -> None:
        """Store a change."""
        self._connection.execute_many(_ENTRIES.insert, [_ENTRIES.values(entry)])  # nothing waits for its result

    def list_before(
        self, account_id: str, before_id: str | None, limit: int, *, actor: str | None, object_id: str | None
    ) -> list[AuditEntry]:
        """Changes that match every filter, newest first."""
        clause, params = where(
            ("account_id = ?", account_id), ("id < ?", before_id), ("actor = ?", actor), ("object_id = ?", object_id)
        )
        rows = self._connection.execute(
            f"SELECT {_ENTRIES.columns()} FROM audit_log {clause} ORDER BY id DESC LIMIT ?", (*params, limit)
        )
        return _ENTRIES.records(rows)

    def remove(self, before: UnixMs) -> int:
        """Remove a batch of the changes that are older than `before`; how many."""
        return self._connection.change(
            "DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log WHERE id < ? ORDER BY id LIMIT ?)",
            (floor("aud", before), BATCH_SIZE),
        )
