"""The notices table, to be read: what owners have to know although nobody asked."""

from dataclasses import dataclass

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection


@dataclass(frozen=True, slots=True)
class PastNotice:
    """One notice as it was written down."""

    id: str
    endpoint_id: str
    kind: str
    detail: str
    created_at: UnixMs


class NoticeTables:
    """Notices, inside one transaction. `HealthTables` writes them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list_before(
        self, account_id: str, before_id: str | None, endpoint_id: str | None, limit: int
    ) -> list[PastNotice]:
        """Notices, newest first."""
        clauses, params = ["account_id = ?"], [account_id]
        for clause, value in (("id < ?", before_id), ("endpoint_id = ?", endpoint_id)):
            if value is not None:
                clauses.append(clause)
                params.append(value)
        rows = self._connection.execute(
            f"SELECT id, endpoint_id, kind, detail, created_at FROM notices WHERE {' AND '.join(clauses)}"
            " ORDER BY id DESC LIMIT ?",
            (*params, limit),
        )
        return [PastNotice(*row) for row in rows]
