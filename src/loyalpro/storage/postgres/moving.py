"""Notices that a database was dumped and restored on a server that counts its transactions from lower.

The order of events begins with the ids of transactions, so what is new would sort before what was restored, and pollers would
never see it. What was restored stays as it is, in the order that pollers know. From then on `lasting_transaction_id` adds to
the server's count what puts it above.
"""

from typing import Final

from loyalpro.storage.connection import DriverConnection

_ONE_AT_A_TIME: Final = 7_011_963_127
_LEAP: Final = 2**40
"""More transactions than the old server had after the newest event: running replays and test events may be of those."""

# One look into the index for each account. Whatever a snapshot shows was written by a transaction below its `xmax`.
_NEWEST_FROM_ELSEWHERE: Final = """
SELECT newest.transaction_id::text::bigint FROM accounts a CROSS JOIN LATERAL (
    SELECT e.transaction_id FROM events e WHERE e.account_id = a.id AND e.test = 0
    ORDER BY e.transaction_id DESC, e.position DESC LIMIT 1) AS newest
WHERE newest.transaction_id >= lasting_transaction_id(pg_snapshot_xmax(pg_current_snapshot()))
ORDER BY newest.transaction_id DESC LIMIT 1
"""
_COUNT_ON = """
CREATE OR REPLACE FUNCTION lasting_transaction_id(id XID8) RETURNS XID8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
'SELECT (id::text::bigint + {ahead})::text::xid8'
"""


def go_on(connection: DriverConnection) -> None:
    """Have new events come after all that are there. Nothing may write events of this database meanwhile if it has moved."""
    connection.begin()
    try:
        connection.execute("SELECT pg_advisory_xact_lock(?)", (_ONE_AT_A_TIME,))
        for (newest,) in connection.execute(_NEWEST_FROM_ELSEWHERE):
            connection.run_script(_COUNT_ON.format(ahead=newest + _LEAP))
        connection.commit()
    finally:
        connection.rollback()
