"""The slot that one delivery occupies in its endpoint queue, from its claim to its durable outcome."""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from loyalpro.delivery.claims import Claimed
from loyalpro.delivery.endpoint_queues import EndpointQueues
from loyalpro.delivery.settlement import Settlement
from loyalpro.kernel.clock import Clock


@dataclass(slots=True)
class Slot:
    """An async context manager around one delivery; it frees the slot at the latest when the block ends.

    The slot is free as soon as the endpoint has answered: the next delivery starts before the outcome of this one is
    durable. The slot of a probe is free when its outcome is durable, because nothing may be sent before the breaker has
    taken it into account. This process holds the delivery until the block ends. `on_change` is called whenever another
    delivery may start.
    """

    queues: EndpointQueues
    claimed: Claimed
    clock: Clock
    on_change: Callable[[], None]
    occupied: bool = True

    async def __aenter__(self) -> Self:
        """The claim has taken the slot already."""
        return self

    def answered(self, settlement: Settlement) -> None:
        """The attempt has ended, and its settlement is not durable yet."""
        if not self.claimed.probe:
            self._free(succeeded=self._tells(settlement))
            self.on_change()

    def settled(self, settlement: Settlement) -> None:
        """The settlement is durable."""
        self._free(succeeded=self._tells(settlement))
        self.queues.settled(settlement, self.clock.now_ms())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Free the slot if that has not happened: the delivery was not sent, or an error or a cancellation ended it."""
        self._free(succeeded=False)
        self.queues.released(self.claimed.target.endpoint_id)
        self.on_change()

    def _tells(self, settlement: Settlement) -> bool | None:
        """Whether the endpoint accepted the delivery; None for a forged one, which it should refuse."""
        return None if self.claimed.forged else settlement.succeeded

    def _free(self, *, succeeded: bool | None) -> None:
        if self.occupied:
            self.occupied = False
            self.queues.slot_freed(self.claimed.target.endpoint_id, self.clock.now_ms(), succeeded=succeeded)
