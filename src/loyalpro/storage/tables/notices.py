"""The notices table: what the owners of endpoints are told. Satisfies `webhooks.ports.NoticeStore`."""

from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import RowMapper
from loyalpro.webhooks.entities import Notice

_NOTICES = RowMapper(Notice, "notices")


class NoticeTables:
    """Notices, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list_before(self, account_id: str, before_id: str | None, endpoint_id: str | None, limit: int) -> list[Notice]:
        """Notices, newest first."""
        clauses, params = ["account_id = ?"], [account_id]
        for clause, value in (("id < ?", before_id), ("endpoint_id = ?", endpoint_id)):
            if value is not None:
                clauses.append(clause)
                params.append(value)
        rows = self._connection.execute(
            f"SELECT {_NOTICES.columns()} FROM notices WHERE {' AND '.join(clauses)} ORDER BY id DESC LIMIT ?",
            (*params, limit),
        )
        return _NOTICES.records(rows)
