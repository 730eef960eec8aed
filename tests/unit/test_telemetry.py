"""The values of metrics that are not plain counts of calls."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.breaker import Health
from loyalpro.delivery.claims import BacklogPage, ClaimRequest, ClaimResult, EndpointBacklog, Target
from loyalpro.delivery.endpoint_queues import Bounds, EndpointQueues
from loyalpro.delivery.lag import WaitsFor
from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import VirtualClock
from loyalpro.telemetry import Telemetry
from support.claims import CLAIMED, TARGET

DELAY = "loyalpro_delivery_first_attempt_delay_seconds"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def telemetry(clock: VirtualClock) -> Telemetry:
    return Telemetry(clock)


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, labels)


def settlement(
    number: int,
    status: DeliveryStatus,
    *,
    started_at: int = 2_500,
    created_at: int | None = 1_000,
    scheduled: bool = True,
) -> Settlement:
    attempt = Attempt(number, started_at, OutcomeCode.HTTP_5XX, "", (), None, None, None)
    return Settlement(replace(CLAIMED, created_at=created_at), status, None, attempt, scheduled=scheduled)


def test_the_delay_of_a_first_attempt_counts_from_the_commit(telemetry: Telemetry) -> None:
    telemetry.settled(settlement(1, DeliveryStatus.PENDING))
    telemetry.settled(settlement(1, DeliveryStatus.SUCCEEDED, started_at=999))
    telemetry.settled(settlement(2, DeliveryStatus.PENDING, started_at=90_000))
    assert (value(telemetry, f"{DELAY}_count"), value(telemetry, f"{DELAY}_sum")) == (2, 1.5)


def test_a_manual_attempt_that_fails_exhausts_nothing_again(telemetry: Telemetry) -> None:
    telemetry.settled(settlement(9, DeliveryStatus.EXHAUSTED))
    telemetry.settled(Settlement(CLAIMED, DeliveryStatus.EXHAUSTED, None, None))
    telemetry.settled(settlement(10, DeliveryStatus.EXHAUSTED, scheduled=False))
    telemetry.settled(settlement(3, DeliveryStatus.PENDING))
    telemetry.exhausted(5)
    assert value(telemetry, "loyalpro_deliveries_exhausted_total") == 7


def ages(telemetry: Telemetry) -> Mapping[str, float | None]:
    name = "loyalpro_delivery_oldest_due_age_seconds"
    return {each.value: value(telemetry, name, waits_for=each.value) for each in WaitsFor}


def test_the_age_of_the_oldest_due_delivery_grows_while_no_scan_succeeds(
    telemetry: Telemetry, clock: VirtualClock
) -> None:
    assert ages(telemetry) == {"worker": 0, "endpoint": 0, "rate_limit": 0}
    telemetry.oldest_due({WaitsFor.WORKER: clock.now_ms() - 3_000})
    clock.advance(60)
    assert ages(telemetry) == {"worker": 63, "endpoint": 0, "rate_limit": 0}
    telemetry.oldest_due({})
    assert ages(telemetry) == {"worker": 0, "endpoint": 0, "rate_limit": 0}


NOW = 1_763_980_200_000
FAILING = Health(failures=1, failing_since=NOW - 1)
OPEN = Health(failures=9, failing_since=NOW - 1, probes=1, probe_at=NOW - 1)
RECOVERING = Health(recovered_at=NOW - 1)


@pytest.mark.parametrize(
    ("target", "waits_for"),
    [
        (TARGET, WaitsFor.WORKER),
        (replace(TARGET, health=FAILING), WaitsFor.ENDPOINT),
        (replace(TARGET, health=OPEN), WaitsFor.ENDPOINT),
        (replace(TARGET, health=RECOVERING), WaitsFor.ENDPOINT),
        (replace(TARGET, rate_limit=5), WaitsFor.RATE_LIMIT),
    ],
)
def test_what_the_oldest_due_delivery_waits_for(target: Target, waits_for: WaitsFor) -> None:
    queues = EndpointQueues(Bounds())
    queues.begin_scan()
    others = [EndpointBacklog(replace(target, endpoint_id=f"we_{due_at}"), due_at) for due_at in (NOW + 1, NOW - 5)]
    queues.add_page(BacklogPage([EndpointBacklog(target, NOW - 9), *others], 1, until="we_9"), NOW)
    assert queues.lag.oldest == {}  # the scan has not ended
    queues.add_page(BacklogPage([], 1), NOW)
    assert queues.lag.oldest == {waits_for: NOW - 9}
    queues.begin_scan()
    queues.add_page(BacklogPage([], 1), NOW)
    assert queues.lag.oldest == {}


def test_a_delivery_behind_requests_under_way_waits_for_its_endpoint() -> None:
    queues = EndpointQueues(Bounds(endpoint_width=2))
    page = BacklogPage([EndpointBacklog(TARGET, NOW - 9)], 1)
    queues.begin_scan()
    queues.add_page(page, NOW)
    requests = queues.requests(NOW)
    assert requests == [ClaimRequest(TARGET.endpoint_id, 2)]
    queues.claimed(requests, ClaimResult([CLAIMED, CLAIMED], {TARGET.endpoint_id: TARGET}), NOW)
    queues.begin_scan()
    queues.add_page(page, NOW)
    assert queues.lag.oldest == {WaitsFor.ENDPOINT: NOW - 9}
