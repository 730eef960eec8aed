"""Timers of endpoint queues: when to look at each queue again although nothing happens to it."""

import heapq
from collections.abc import Iterator, Mapping
from typing import Final

from loyalpro.delivery.endpoint_queue import EndpointQueue
from loyalpro.kernel.clock import UnixMs

COALESCE_MS: Final = 20
"""Work that no request waits for, such as a retry or its outcome, is delayed by up to so long and done together."""
_ENTRIES_PER_QUEUE = 4
_SPARE_ENTRIES = 64


def coalesced(at: UnixMs) -> UnixMs:
    """Return the first multiple of `COALESCE_MS` that is not before `at`."""
    return -(-at // COALESCE_MS) * COALESCE_MS


class Timers:
    """At most one timer for each of the queues, by endpoint id.

    A heap has an entry for each time that was set. An entry is stale when the timer of its queue has been set anew, or the
    queue is gone; `EndpointQueue.timer_at` says which entry is current.
    """

    def __init__(self, queues: Mapping[str, EndpointQueue]) -> None:
        self._queues = queues
        self._heap: list[tuple[UnixMs, str]] = []

    @property
    def next_at(self) -> UnixMs | None:
        """The time of the first entry, which may be stale; None without any."""
        return self._heap[0][0] if self._heap else None

    def set(self, queue: EndpointQueue, at: UnixMs) -> None:
        """Let the timer of the queue fire at `at`, and not at an earlier or later time that was set before."""
        if queue.timer_at != at:
            queue.timer_at = at
            heapq.heappush(self._heap, (at, queue.endpoint_id))
            self._drop_stale_entries()

    def fire(self, now: UnixMs) -> Iterator[EndpointQueue]:
        """Yield each queue whose timer is due, earliest first; its timer is cleared."""
        while self._heap and self._heap[0][0] <= now:
            at, endpoint_id = heapq.heappop(self._heap)
            queue = self._queues.get(endpoint_id)
            if queue is not None and queue.timer_at == at:
                queue.timer_at = None
                yield queue

    def _drop_stale_entries(self) -> None:
        """Rebuild the heap when it has too many entries: stale ones would stay until their time."""
        if len(self._heap) > _SPARE_ENTRIES + _ENTRIES_PER_QUEUE * len(self._queues):
            queues = self._queues.values()
            self._heap = [(queue.timer_at, queue.endpoint_id) for queue in queues if queue.timer_at is not None]
            heapq.heapify(self._heap)
