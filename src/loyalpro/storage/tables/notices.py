"""The notices table: messages to the owners of endpoints about changes that the system made.

Satisfies `webhooks.ports.NoticeStore`.
"""

from loyalpro.delivery.settlement import Notice
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import IdFactory, floor
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import RowMapper
from loyalpro.storage.sql import where
from loyalpro.webhooks.entities import PastNotice

_NOTICES = RowMapper(PastNotice, "notices")


class NoticeTables:
    """Notices, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, notice: Notice, now: UnixMs, ids: IdFactory, *, unless_since: UnixMs | None = None) -> bool:
        """Write a notice; return whether it was written.

        `unless_since`: do not write it if the endpoint has had a notice of the same kind since then.
        """
        if unless_since is not None and self._exists(notice, unless_since):
            return False
        self._connection.execute(
            "INSERT INTO notices (id, account_id, endpoint_id, kind, detail, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            (ids.new("ntc"), notice.account_id, notice.endpoint_id, notice.kind, notice.detail, now),
        )
        return True

    def list_before(
        self, account_id: str, before_id: str | None, endpoint_id: str | None, limit: int
    ) -> list[PastNotice]:
        """Return up to `limit` notices of an account, newest first."""
        clause, params = where(("account_id = ?", account_id), ("id < ?", before_id), ("endpoint_id = ?", endpoint_id))
        rows = self._connection.execute(
            f"SELECT {_NOTICES.columns()} FROM notices {clause} ORDER BY id DESC LIMIT ?", (*params, limit)
        )
        return _NOTICES.records(rows)

    def _exists(self, notice: Notice, since: UnixMs) -> bool:
        return bool(
            self._connection.execute(
                "SELECT 1 FROM notices WHERE account_id = ? AND id >= ? AND endpoint_id = ? AND kind = ? LIMIT 1",
                (notice.account_id, floor("ntc", since), notice.endpoint_id, notice.kind),
            )
        )
