"""When a slot is freed: with the answer, or with the durable outcome of a probe, and in any case at the end."""

import asyncio
from dataclasses import replace

import pytest

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.claims import BacklogPage, Claimed, ClaimResult, EndpointBacklog
from loyalpro.delivery.endpoint_queues import Bounds, EndpointQueues
from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.slot import Slot
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import VirtualClock
from support.claims import CLAIMED

CLOCK = VirtualClock()


def queues_with(claimed: Claimed) -> EndpointQueues:
    """Queues in which this delivery has just been claimed."""
    queues, now, target = EndpointQueues(Bounds()), CLOCK.now_ms(), claimed.target
    queues.add_page(BacklogPage([EndpointBacklog(target, now)], 1), now)
    queues.claimed(queues.requests(now), ClaimResult([claimed], {target.endpoint_id: target}), now)
    return queues


def settlement(claimed: Claimed) -> Settlement:
    attempt = Attempt(1, 0, OutcomeCode.SUCCEEDED, "", (), None, None, None)
    return Settlement(claimed, DeliveryStatus.SUCCEEDED, 0, attempt)


@pytest.mark.parametrize(("probe", "in_flight_after_the_answer"), [(False, 0), (True, 1)])
def test_a_slot_is_free_after_the_answer_and_that_of_a_probe_after_the_durable_outcome(
    *, probe: bool, in_flight_after_the_answer: int
) -> None:
    claimed = replace(CLAIMED, probe=probe)
    queues, wakes = queues_with(claimed), list[None]()
    [queue] = queues._queues.values()

    async def deliver() -> None:
        async with Slot(queues, claimed, CLOCK, lambda: wakes.append(None)) as slot:
            assert (queues.in_flight, queue.held) == (1, 1)
            slot.answered(settlement(claimed))
            assert queues.in_flight == in_flight_after_the_answer
            assert bool(wakes) is not probe
            slot.settled(settlement(claimed))
            assert (queues.in_flight, queue.held) == (0, 1)

    asyncio.run(deliver())
    assert (queues.in_flight, queue.held) == (0, 0)
    assert wakes


@pytest.mark.parametrize("answered", [False, True])
def test_an_error_frees_the_slot_once(*, answered: bool) -> None:
    queues = queues_with(CLAIMED)
    [queue] = queues._queues.values()

    async def deliver() -> None:
        async with Slot(queues, CLAIMED, CLOCK, lambda: None) as slot:
            if answered:
                slot.answered(settlement(CLAIMED))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(deliver())
    assert (queues.in_flight, queue.held) == (0, 0)
