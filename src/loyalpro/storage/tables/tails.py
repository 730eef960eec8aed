"""Finds rows by the end of their ids among the newest ones of an account."""

from loyalpro.kernel.ids import Prefix, floor
from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.storage.connection import Connection


def recent_with_tail(connection: Connection, table: str, prefix: Prefix, query: RecentTail) -> list[str]:
    """The ids that a tail names, newest first. The table has an index by account and id."""
    rows = connection.execute(
        f"SELECT id FROM (SELECT id FROM {table} WHERE account_id = ? AND id >= ? ORDER BY id DESC LIMIT ?) newest"
        " WHERE id LIKE ? ORDER BY id DESC",
        (query.account_id, floor(prefix, query.since), query.most, f"%{query.tail}"),
    )
    return [id_ for (id_,) in rows]
