"""Small pieces of work for a database: rows that can be counted, and one that lasts."""

import asyncio
import threading
from collections.abc import Callable

from loyalpro.storage.connection import Connection


def insert(name: str) -> Callable[[Connection], str]:
    """Writes a row down."""

    def work(connection: Connection) -> str:
        connection.execute("INSERT INTO accounts (id, name, created_at) VALUES (?, ?, 1)", (name, name))
        return name

    return work


def names(connection: Connection) -> set[str]:
    """The rows that are there."""
    return {name for (name,) in connection.execute("SELECT id FROM accounts")}


class Held:
    """A write that lasts until it is let go; `name`: the row that it writes, if any."""

    def __init__(self, name: str | None = "held") -> None:
        self._name = name
        self._started = threading.Event()
        self.go = threading.Event()

    def __call__(self, connection: Connection) -> str | None:
        self._started.set()
        assert self.go.wait(30)
        return None if self._name is None else insert(self._name)(connection)

    async def under_way(self) -> None:
        """Until it has begun."""
        assert await asyncio.to_thread(self._started.wait, 30)
