"""Two transactions on PostgreSQL that want the same rows at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from loyalpro.storage.connection import Connection, RetryTransaction
from support.history import query, transaction


def at_once(url: str, first: Callable[[Connection], None], second: Callable[[Connection], None]) -> None:
    """Commit both. The second one has been done, or waits for the first, when that commits."""
    with ThreadPoolExecutor(1) as other:
        with transaction(url) as connection:
            first(connection)
            connection.flush()
            running = other.submit(_commit, url, second)
            while not running.done() and not somebody_waits(url):
                pass
        running.result(30)


def somebody_waits(url: str) -> bool:
    """Whether a transaction waits for a row that another one has locked."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(query(url, waiting))


def _commit(url: str, work: Callable[[Connection], None]) -> None:
    """As the writer does: once more when the database asks for it."""
    try:
        with transaction(url) as connection:
            work(connection)
    except RetryTransaction:
        with transaction(url) as connection:
            work(connection)
