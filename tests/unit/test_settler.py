import asyncio
from collections.abc import Sequence
from typing import Any

from structlog.testing import capture_logs

from loyalpro.delivery.breaker import HEALTHY
from loyalpro.delivery.claims import Claimed, Target
from loyalpro.delivery.ports import WorkerId
from loyalpro.delivery.settlement import Settled, Settlement
from loyalpro.delivery.settler import Settler
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs, VirtualClock
from simulation.loop import LoopClock, VirtualLoop, pass_time

TARGET = Target("we_1", "acct_1", "https://example.com/hook", (), ("whsec_x",), 0, None, ordered=False, health=HEALTHY)


def settlement(name: str, status: DeliveryStatus = DeliveryStatus.SUCCEEDED) -> Settlement:
    claimed = Claimed(name, "evt_1", "points.earned", b"{}", 1, 1, 0, None, None, probe=False, target=TARGET)
    return Settlement(claimed, status, 0, None)


class PickyStore:
    """Breaks on one delivery, as a mistake of ours would."""

    async def settle(
        self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> Settled:
        names = [each.claimed.delivery_id for each in settlements]
        if "dlv_bad" in names:
            raise ValueError("a mistake")
        return Settled(frozenset(names), {}, ())


def test_one_settlement_that_breaks_the_write_takes_no_other_with_it() -> None:
    async def main() -> list[bool | BaseException]:
        store: Any = PickyStore()
        settler = Settler(store, VirtualClock(), lambda _: None, longest_probe_s=1.0)
        running = asyncio.create_task(settler.run())
        names = ["dlv_1", "dlv_bad", "dlv_2"]
        settling = [settler.settle("wrk_1", settlement(name)) for name in names]
        first = await asyncio.gather(*settling, return_exceptions=True)
        later = await settler.settle("wrk_1", settlement("dlv_3"))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return [*first, later]

    with capture_logs() as logs:
        first, broken, *others = asyncio.run(main())
    assert [first, *others] == [True, True, True]
    assert isinstance(broken, ValueError)
    assert [each["event"] for each in logs] == ["settle_broke", "settle_broke"]


class Notebook:
    """Remembers what was written together."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def settle(
        self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> Settled:
        self.batches.append([each.claimed.delivery_id for each in settlements])
        return Settled(frozenset(self.batches[-1]), {}, ())


def test_what_is_tried_again_waits_for_others_and_what_has_ended_takes_it_along() -> None:
    notebook = Notebook()

    async def main(loop: VirtualLoop) -> list[list[str]]:
        store: Any = notebook
        settler = Settler(store, LoopClock(loop), lambda _: None, longest_probe_s=1.0)
        running = asyncio.create_task(settler.run())
        settling = []
        for name in ("dlv_1", "dlv_2"):
            settling.append(asyncio.create_task(settler.settle("wrk_1", settlement(name, DeliveryStatus.PENDING))))
            await pass_time(0.008)
        before = list(notebook.batches)
        await pass_time(0.012)
        settling.append(asyncio.create_task(settler.settle("wrk_1", settlement("dlv_3", DeliveryStatus.PENDING))))
        await pass_time(0.001)
        assert await settler.settle("wrk_1", settlement("dlv_4"))
        assert await asyncio.gather(*settling) == [True, True, True]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return before

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        assert runner.run(main(loop)) == []
    assert notebook.batches == [["dlv_1", "dlv_2"], ["dlv_3", "dlv_4"]]
