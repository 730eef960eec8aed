"""Small writes for tests of a database: rows that can be counted, and a write that lasts as long as a test wants."""

import asyncio
import threading
from collections.abc import Callable

from loyalpro.storage.connection import Connection


def insert(name: str) -> Callable[[Connection], str]:
    """A write that inserts one account with this name, and returns the name."""

    def work(connection: Connection) -> str:
        connection.execute("INSERT INTO accounts (id, name, created_at) VALUES (?, ?, 1)", (name, name))
        return name

    return work


def names(connection: Connection) -> set[str]:
    """The names of all accounts."""
    return {name for (name,) in connection.execute("SELECT id FROM accounts")}


class Held:
    """A write that lasts until `go` is set, and then inserts `name`, if any."""

    def __init__(self, name: str | None = "held") -> None:
        self._name = name
        self._started = threading.Event()
        self.go = threading.Event()

    def __call__(self, connection: Connection) -> str | None:
        self._started.set()
        assert self.go.wait(30)
        return None if self._name is None else insert(self._name)(connection)

    async def under_way(self) -> None:
        """Return when the write has begun."""
        assert await asyncio.to_thread(self._started.wait, 30)
