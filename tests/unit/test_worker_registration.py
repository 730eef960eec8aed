import asyncio
import itertools
from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from loyalpro.delivery.ports import WorkerId
from loyalpro.delivery.worker_registration import LeaseTimes, WorkerRegistration
from loyalpro.kernel.errors import StoreUnavailable
from simulation.loop import LoopClock, VirtualLoop, pass_time


class FaultyStore:
    """Fails at the named calls, as many times as given, and then works."""

    def __init__(self, error: Exception, **faults: int) -> None:
        self._error = error
        self._faults = Counter(faults)
        self.registered: list[WorkerId] = []
        self.renewed = 0

    async def register(self, worker: WorkerId, *, ttl_ms: int) -> None:
        self._call("register")
        self.registered.append(worker)

    async def renew(self, _worker: WorkerId, *, ttl_ms: int) -> bool:
        self._call("renew")
        self.renewed += 1
        return True

    async def rescue(self, _worker: WorkerId) -> frozenset[str]:
        self._call("rescue")
        return frozenset({"we_1"})

    async def release(self, _worker: WorkerId) -> None:
        self._call("release")

    def _call(self, name: str) -> None:
        if self._faults[name]:
            self._faults[name] -= 1
            raise self._error


@pytest.mark.parametrize(
    "error", [StoreUnavailable("The database is down."), RuntimeError("a bug")], ids=["down", "bug"]
)
def test_no_error_ends_the_registration(error: Exception) -> None:
    store: Any = FaultyStore(error, register=2, rescue=2, renew=3, release=1)
    rescued: list[str] = []

    async def main(loop: VirtualLoop) -> None:
        numbers = itertools.count(1)
        registration = WorkerRegistration(
            store, LoopClock(loop), lambda: f"wrk_{next(numbers)}", rescued.extend, LeaseTimes()
        )
        await registration.register()
        running = asyncio.create_task(registration.run())
        await pass_time(20)
        assert not running.done()
        assert await registration.holds(registration.worker)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await registration.leave()
        store._faults["renew"] = 2
        assert await registration.holds(registration.worker)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner, capture_logs() as logs:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        runner.run(main(loop))
    assert store.renewed >= 2
    assert rescued
    assert {each["endpoints"] for each in logs if each["event"] == "leases_rescued"} == {1}
    logs = [each for each in logs if each["event"] != "leases_rescued"]
    ending = "failed" if isinstance(error, StoreUnavailable) else "crashed"
    assert {each["event"].rpartition("_")[2] for each in logs} == {ending}
    assert {each["event"].partition("_")[0] for each in logs} == {
        "registration",
        "heartbeat",
        "rescue",
        "release",
        "renewal",
    }


def test_an_error_of_the_rescue_does_not_keep_a_worker_from_its_own_deliveries() -> None:
    store: Any = FaultyStore(RuntimeError("a bug"), rescue=10**6)

    async def main(loop: VirtualLoop) -> None:
        numbers = itertools.count(1)
        registration = WorkerRegistration(
            store, LoopClock(loop), lambda: f"wrk_{next(numbers)}", lambda _: None, LeaseTimes()
        )
        await registration.register()
        running = asyncio.create_task(registration.run())
        await pass_time(60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner, capture_logs() as logs:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        runner.run(asyncio.wait_for(main(loop), 120))
    assert store.registered == ["wrk_1"]
    assert store.renewed > 20
    assert {each["event"] for each in logs} == {"rescue_crashed"}
