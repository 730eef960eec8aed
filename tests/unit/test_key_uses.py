"""The last use of keys: at most one write for a key and hour, and nothing is lost when the database fails."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from loyalpro.accounts.entities import ApiKey
from loyalpro.accounts.key_uses import KeyUses
from loyalpro.jobs.periodic_job import BATCH_SIZE, Piece
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import StoreUnavailable
from loyalpro.kernel.unit_of_work import SYSTEM, WriterName

HOUR = 3_600_000
KEY = ApiKey("key_1", "acct_1", "till", "abcd", ("read",), None, 1, "cli", None, None, None)


class Store:
    """What the job writes; `fails` as often as it says."""

    def __init__(self, fails: int = 0) -> None:
        self.written: list[dict[str, UnixMs]] = []
        self._fails = fails

    @property
    def api_keys(self) -> "Store":
        return self

    def mark_used(self, hours: Mapping[str, UnixMs]) -> None:
        self.written.append(dict(hours))

    async def change(self, work: Callable[[Any], Any], writer: WriterName = "ingest", *, actor: str = SYSTEM) -> Any:
        assert writer == "upkeep"
        if self._fails:
            self._fails -= 1
            raise StoreUnavailable("away")
        return work(self)


def run(uses: KeyUses, store: Any) -> Piece:
    async def piece() -> Piece:
        return await uses.job(store, 60).run_piece(0)

    return asyncio.run(piece())


def test_uses_of_one_hour_are_one_write() -> None:
    uses, store = KeyUses(), Store()
    for at in (5 * HOUR, 5 * HOUR + 1, 6 * HOUR - 1):
        uses.note(KEY, at)
    assert run(uses, store) == Piece(1)
    assert run(uses, store) == Piece(0)
    assert store.written == [{"key_1": 5 * HOUR}]


def test_an_hour_that_is_stored_is_not_written_again_and_the_next_one_is() -> None:
    uses, store = KeyUses(), Store()
    stored = replace(KEY, last_used_at=5 * HOUR)
    uses.note(stored, 6 * HOUR - 1)
    assert run(uses, store) == Piece(0)
    uses.note(stored, 6 * HOUR)
    assert run(uses, store) == Piece(1)
    assert store.written == [{"key_1": 6 * HOUR}]


def test_uses_stay_noted_when_the_database_fails() -> None:
    uses, store = KeyUses(), Store(fails=1)
    uses.note(KEY, 5 * HOUR)
    with pytest.raises(StoreUnavailable):
        run(uses, store)
    assert run(uses, store) == Piece(1)


def test_many_uses_are_written_in_batches() -> None:
    uses, store = KeyUses(), Store()
    for n in range(BATCH_SIZE + 1):
        uses.note(replace(KEY, id=f"key_{n}"), HOUR)
    assert [run(uses, store), run(uses, store)] == [Piece(BATCH_SIZE, more=True), Piece(1)]


def test_the_job_runs_at_least_every_minute() -> None:
    store: Any = Store()
    assert [KeyUses().job(store, interval_s).every_s for interval_s in (5, 3_600)] == [5, 60]
