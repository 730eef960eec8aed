"""Two concurrent transactions on PostgreSQL that lock the same rows."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from loyalpro.storage.connection import Connection, RetryTransaction
from support.history import query, transaction


def at_once(url: str, first: Callable[[Connection], None], second: Callable[[Connection], None]) -> None:
    """Commit both. The first commits when the second is finished or waits for a lock of the first."""
    with ThreadPoolExecutor(1) as other:
        with transaction(url) as connection:
            first(connection)
            connection.flush()
            running = other.submit(_commit, url, second)
            while not running.done() and not is_lock_awaited(url):
                pass
        running.result(30)


def is_lock_awaited(url: str) -> bool:
    """Whether a transaction waits for a lock of another one."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(query(url, waiting))


def _commit(url: str, work: Callable[[Connection], None]) -> None:
    """Commit, with one more try when the database asks for it, as the writer does."""
    try:
        with transaction(url) as connection:
            work(connection)
    except RetryTransaction:
        with transaction(url) as connection:
            work(connection)
