import asyncio
from collections.abc import Sequence
from typing import Any

from structlog.testing import capture_logs

from loyalpro.delivery.breaker import HEALTHY
from loyalpro.delivery.claims import Claimed, Target
from loyalpro.delivery.ports import WorkerId
from loyalpro.delivery.settlement import Settled, Settlement
from loyalpro.delivery.settlement_writer import SettlementWriter
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs, VirtualClock
from simulation.loop import LoopClock, VirtualLoop, pass_time

TARGET = Target("we_1", "acct_1", "https://example.com/hook", (), ("whsec_x",), 0, None, ordered=False, health=HEALTHY)


def settlement(name: str, status: DeliveryStatus = DeliveryStatus.SUCCEEDED) -> Settlement:
    claimed = Claimed(name, "evt_1", "points.earned", b"{}", 1, 1, 0, None, None, probe=False, target=TARGET)
    return Settlement(claimed, status, 0, None)


class FailingStore:
    """Raises an error for one delivery, as a bug would."""

    async def settle(
        self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> Settled:
        names = [each.claimed.delivery_id for each in settlements]
        if "dlv_bad" in names:
            raise ValueError("a bug")
        return Settled(frozenset(names), {}, ())


def test_a_settlement_that_cannot_be_written_does_not_affect_the_others() -> None:
    async def main() -> list[bool | BaseException]:
        store: Any = FailingStore()
        writer = SettlementWriter(store, VirtualClock(), lambda _: None, longest_probe_s=1.0)
        running = asyncio.create_task(writer.run())
        names = ["dlv_1", "dlv_bad", "dlv_2"]
        settling = [writer.settle("wrk_1", settlement(name)) for name in names]
        first = await asyncio.gather(*settling, return_exceptions=True)
        later = await writer.settle("wrk_1", settlement("dlv_3"))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return [*first, later]

    with capture_logs() as logs:
        first, failed, *others = asyncio.run(main())
    assert [first, *others] == [True, True, True]
    assert isinstance(failed, ValueError)
    assert [each["event"] for each in logs] == ["settle_crashed", "settle_crashed"]


class RecordingStore:
    """Records the batches that were written."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def settle(
        self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> Settled:
        self.batches.append([each.claimed.delivery_id for each in settlements])
        return Settled(frozenset(self.batches[-1]), {}, ())


def test_settlements_of_retries_wait_for_others_and_a_finished_delivery_takes_them_along() -> None:
    recording = RecordingStore()

    async def main(loop: VirtualLoop) -> list[list[str]]:
        store: Any = recording
        writer = SettlementWriter(store, LoopClock(loop), lambda _: None, longest_probe_s=1.0)
        running = asyncio.create_task(writer.run())
        settling = []
        for name in ("dlv_1", "dlv_2"):
            settling.append(asyncio.create_task(writer.settle("wrk_1", settlement(name, DeliveryStatus.PENDING))))
            await pass_time(0.008)
        before = list(recording.batches)
        await pass_time(0.012)
        settling.append(asyncio.create_task(writer.settle("wrk_1", settlement("dlv_3", DeliveryStatus.PENDING))))
        await pass_time(0.001)
        assert await writer.settle("wrk_1", settlement("dlv_4"))
        assert await asyncio.gather(*settling) == [True, True, True]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return before

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        assert runner.run(main(loop)) == []
    assert recording.batches == [["dlv_1", "dlv_2"], ["dlv_3", "dlv_4"]]
