"""The sweeper's duty to go on with the jobs that replay: a piece of each in turn, each piece a transaction."""

from collections.abc import Callable, Iterable
from typing import Final

from loyalpro.delivery.sweeper import Duty
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database
from loyalpro.storage.tables.endpoints import EndpointTables
from loyalpro.storage.tables.replays import Piece, ReplayTables
from loyalpro.storage.vault import Vault

DUTY: Final = "replays"
_EVERY_S = 1.0


class ReplayStore:
    """Replays on either database. Any number of processes may do this at once: each piece is one's alone."""

    def __init__(self, database: Database, vault: Vault, on_owed: Callable[[Iterable[str]], None]) -> None:
        self._database = database
        self._vault = vault
        self._on_owed = on_owed

    def duty(self) -> Duty:
        """What is to be done, and how often to look for jobs that other processes have taken in."""
        return Duty(DUTY, _EVERY_S, self.work)

    async def work(self, now: UnixMs) -> bool:
        """One piece of every running job."""
        more = False
        for replay_id in await self._database.read(lambda connection: self._tables(connection).running()):
            piece = await self._piece(replay_id, now)
            self._on_owed(piece.owed)
            more |= piece.more
        return more

    async def _piece(self, replay_id: str, now: UnixMs) -> Piece:
        return await self._database.write(
            lambda connection: self._tables(connection).work(replay_id, now), lane="delivery"
        )

    def _tables(self, connection: Connection) -> ReplayTables:
        return ReplayTables(connection, EndpointTables(connection, self._vault))
