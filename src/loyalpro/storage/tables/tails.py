"""Finds rows by the end of their ids among the newest ones of an account."""

from loyalpro.storage.connection import Connection


def recent_with_tail(
    connection: Connection, table: str, account_id: str, tail: str, first_id: str, most: int
) -> list[str]:
    """The ids with this end from `first_id` on, newest first, of which at most `most` are looked at.

    `tail` has only characters of ids. The table has an index by account and id.
    """
    rows = connection.execute(
        f"SELECT id FROM (SELECT id FROM {table} WHERE account_id = ? AND id >= ? ORDER BY id DESC LIMIT ?) newest"
        " WHERE id LIKE ? ORDER BY id DESC",
        (account_id, first_id, most, f"%{tail}"),
    )
    return [id_ for (id_,) in rows]
