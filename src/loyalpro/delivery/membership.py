"""This process among the workers: known by a name that is never used again, alive as long as it says so in time."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from loyalpro.delivery.ports import DeliveryStore, WorkerId
from loyalpro.kernel.clock import MS_PER_S, Clock
from loyalpro.kernel.errors import StoreError

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """A worker that has been silent for `ttl_s` is given up. Together they bound how long a dead one's work lies still."""

    ttl_s: float = 9.0
    renew_s: float = 2.0


class Membership:
    """Enlists, renews, and frees what workers held that have fallen silent."""

    def __init__(
        self,
        store: DeliveryStore,
        clock: Clock,
        new_worker_id: Callable[[], WorkerId],
        on_freed: Callable[[Iterable[str]], None],
        times: LeaseTimes,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_worker_id = new_worker_id
        self._on_freed = on_freed
        self._times = times
        self._never = asyncio.Event()
        self._renewing = asyncio.Lock()
        self._valid_until_s = 0.0
        self._log = structlog.get_logger("delivery")
        self.worker: WorkerId = ""

    async def holds(self, worker: WorkerId) -> bool:
        """Whether what was leased under this name is still ours; after a long pause of this process, the store knows."""
        while self._clock.monotonic_s() >= self._valid_until_s:
            async with self._renewing:
                try:
                    await self._renew()
                except Exception as error:  # noqa: BLE001 - logged, and asked again
                    self._note("renewal", error)
                    await self._clock.wait(self._never, _FIRST_PAUSE_S)
        return worker == self.worker

    async def enlist(self) -> None:
        """Become known under a new name, and free what others have left behind."""
        pause_s = _FIRST_PAUSE_S
        while True:
            worker, began_s = self._new_worker_id(), self._clock.monotonic_s()
            try:
                await self._store.register(worker, ttl_ms=self._ttl_ms)
            except Exception as error:  # noqa: BLE001 - logged, and tried again
                self._note("registration", error)
                await self._clock.wait(self._never, pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                self.worker, self._valid_until_s = worker, began_s + self._times.ttl_s
                await self._rescue()
                return

    async def run(self) -> None:
        """Keep our leases alive, until cancelled."""
        while True:
            await self._clock.wait(self._never, self._times.renew_s)
            try:
                async with self._renewing:
                    await self._renew()
            except Exception as error:  # noqa: BLE001 - logged, and tried again
                self._note("heartbeat", error)
            else:
                await self._rescue()

    async def leave(self) -> None:
        """Give up everything that is still held: it goes out again, from here or elsewhere, with the same id."""
        self._valid_until_s = 0.0
        try:
            await self._store.release(self.worker)
        except Exception as error:  # noqa: BLE001 - logged; others free it when we have been silent for long enough
            self._note("release", error)

    async def _renew(self) -> None:
        began_s = self._clock.monotonic_s()
        if await self._store.renew(self.worker, ttl_ms=self._ttl_ms):
            self._valid_until_s = began_s + self._times.ttl_s
        else:
            self._log.warning("leases_taken", worker=self.worker)
            await self.enlist()

    async def _rescue(self) -> None:
        """What the dead have left behind must keep nobody from work of its own."""
        try:
            self._on_freed(sorted(await self._store.rescue(self.worker)))
        except Exception as error:  # noqa: BLE001 - logged, and tried again by the next heartbeat
            self._note("rescue", error)

    def _note(self, what: str, error: Exception) -> None:
        """Nothing that goes wrong here may end the engine: it is all that keeps this process's deliveries going."""
        if isinstance(error, StoreError):
            self._log.warning(f"{what}_failed", code=error.code)
        else:
            self._log.error(f"{what}_broke", exc_info=error)

    @property
    def _ttl_ms(self) -> int:
        return round(self._times.ttl_s * MS_PER_S)
