"""All destination hosts of this process: each has a width of its own, whichever accounts own the endpoints that point to it.

So no account, and no number of accounts together, can direct more than that at one host of a third party.
"""

from collections.abc import Iterator

from loyalpro.delivery.endpoint_queue import Destination, EndpointQueue


class Destinations:
    """Destinations by host. One exists as long as an endpoint queue has it."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._by_host: dict[str, Destination] = {}

    def join(self, host: str) -> Destination:
        """Return the destination for one more queue."""
        destination = self._by_host.get(host)
        if destination is None:
            destination = self._by_host[host] = Destination(self._width)
        destination.queues += 1
        return destination

    def leave(self, queue: EndpointQueue) -> Destination:
        """Take a queue out of its destination; return the destination, which is forgotten with its last queue."""
        destination = queue.destination
        destination.waiting.pop(queue.endpoint_id, None)
        destination.queues -= 1
        if not destination.queues:
            del self._by_host[queue.target.host]
        return destination

    def resize(self, width: int) -> None:
        """Set the width of all destinations."""
        self._width = width
        for destination in self:
            destination.width = width

    def __iter__(self) -> Iterator[Destination]:
        return iter(self._by_host.values())
