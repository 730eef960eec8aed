"""Keeps the order of events when a dump is restored on a server whose transaction counter is lower.

The order of events begins with transaction ids. On such a server, new events would sort before the restored ones, and pollers
would never see them. The restored events keep their ids, because pollers know their order. From the restore on, the SQL
function `lasting_transaction_id` adds an offset to the ids of the server that puts them above all restored ones.
"""

from typing import Final

from loyalpro.storage.connection import DriverConnection

_ADVISORY_LOCK: Final = 7_011_963_127
_MARGIN: Final = 2**40
"""More than the transactions that the old server ran after the newest event. Replays and test events may carry their ids."""

# One index lookup for each account. Every row that a snapshot shows was written by a transaction below its `xmax`.
_NEWEST_RESTORED: Final = """
SELECT newest.transaction_id::text::bigint FROM accounts a CROSS JOIN LATERAL (
    SELECT e.transaction_id FROM events e WHERE e.account_id = a.id AND e.test = 0
    ORDER BY e.transaction_id DESC, e.position DESC LIMIT 1) AS newest
WHERE newest.transaction_id >= lasting_transaction_id(pg_snapshot_xmax(pg_current_snapshot()))
ORDER BY newest.transaction_id DESC LIMIT 1
"""
_SET_OFFSET: Final = """
CREATE OR REPLACE FUNCTION lasting_transaction_id(id XID8) RETURNS XID8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
'SELECT (id::text::bigint + {offset})::text::xid8'
"""


def advance_offset(connection: DriverConnection) -> None:
    """Raise the offset of transaction ids if an event has an id that this server has not reached.

    In that case, no other connection may write events of this database at the same time.
    """
    connection.begin()
    try:
        connection.execute("SELECT pg_advisory_xact_lock(?)", (_ADVISORY_LOCK,))
        for (newest,) in connection.execute(_NEWEST_RESTORED):
            connection.run_script(_SET_OFFSET.format(offset=newest + _MARGIN))
        connection.commit()
    finally:
        connection.rollback()
