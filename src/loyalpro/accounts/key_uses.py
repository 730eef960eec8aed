"""The hour in which each API key was last used: noted in memory with a request, and stored by a periodic job in batches.

A key costs at most one update an hour, in no request's transaction. A process that ends loses what it noted since the job's
last run, at most a minute.
"""

from itertools import islice
from typing import Final

from loyalpro.accounts.entities import ApiKey
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.jobs.periodic_job import BATCH_SIZE, JobKind, PeriodicJob, Piece
from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner

KEY_USES: Final = JobKind("key_uses")
_HOUR_MS: Final = 3_600 * MS_PER_S
_LONGEST_INTERVAL_S: Final = 60.0


class KeyUses:
    """The uses of keys that are not stored yet, by the ids of the keys."""

    def __init__(self) -> None:
        self._hours: dict[str, UnixMs] = {}

    def note(self, key: ApiKey, now: UnixMs) -> None:
        """Note that a key is used, unless this hour is stored already."""
        hour = now - now % _HOUR_MS
        if key.last_used_at is None or key.last_used_at < hour:
            self._hours[key.id] = hour

    def job(self, runner: UnitOfWorkRunner[AccountsUnit], interval_s: float) -> PeriodicJob:
        """The job that stores the uses."""

        async def store(now: UnixMs) -> Piece:  # noqa: ARG001 - the hours are noted already
            hours = dict(islice(self._hours.items(), BATCH_SIZE))
            if hours:
                await runner.change(lambda unit: unit.api_keys.mark_used(hours), "upkeep")
            for id_, hour in hours.items():
                if self._hours.get(id_) == hour:
                    del self._hours[id_]
            return Piece(len(hours), more=bool(self._hours))

        return PeriodicJob(KEY_USES, min(interval_s, _LONGEST_INTERVAL_S), store)
