"""What the tests of the retention and of partitions share."""

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.claims import ClaimRequest
from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from support.history import count

BIG = ("attempts", "deliveries", "events")


def counts(url: str) -> tuple[int, ...]:
    """The number of attempts, of deliveries and of events."""
    return tuple(count(url, table) for table in BIG)


async def deliver(store: DatabaseDeliveryStore, endpoint: str, now: UnixMs) -> int:
    """Claim and settle deliveries until none is due; their number."""
    await store.register("wrk_1", ttl_ms=10**9)
    sent = 0
    while claimed := (await store.claim("wrk_1", [ClaimRequest(endpoint, 20)], now, closing_since=0)).claimed:
        settlements = [
            Settlement(
                each,
                DeliveryStatus.SUCCEEDED,
                now,
                Attempt(each.attempt_number, now, OutcomeCode.SUCCEEDED, "", (), None, None, None),
            )
            for each in claimed
        ]
        sent += len((await store.settle("wrk_1", settlements, now, longest_probe_s=60)).held)
    await store.release("wrk_1")
    return sent
