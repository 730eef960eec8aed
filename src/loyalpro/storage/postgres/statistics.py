"""Gathers planner statistics of tables that have grown since PostgreSQL last analyzed them, or that it never analyzed.

Autovacuum analyzes tables by itself, but it comes to a table after minutes at best, and not before a large import or a restore
has ended. Every statement is written so that its plan is right without statistics; statistics keep the estimates near the
truth, also for queries of the operator.
"""

from typing import Final

from loyalpro.storage.connection import Connection

_GROWTH: Final = 10
_FEWEST_ROWS: Final = 10_000
# `reltuples` is the number of rows at the last ANALYZE or VACUUM, and at most 0 before the first. Partitions have statistics of
# their own. No two processes analyze a table at the same time: the second finds it locked, and the first is enough.
_GROWN: Final = """
SELECT s.relid::regclass::text FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
WHERE s.schemaname = current_schema() AND s.n_live_tup >= GREATEST(?, ? * c.reltuples)
ORDER BY s.n_live_tup LIMIT 1
"""


def analyze_grown_table(connection: Connection) -> bool:
    """Analyze one table that has ten times as many rows as at its last ANALYZE or VACUUM; return whether there was one."""
    rows = connection.execute(_GROWN, (_FEWEST_ROWS, _GROWTH))
    for (table,) in rows:
        connection.execute(f"ANALYZE {table}")
    return bool(rows)
