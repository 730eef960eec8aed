"""All endpoint queues against a model of the database: counters, limits, fair turns, and no queue lost or leaked."""

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.breaker import HEALTHY, Health
from loyalpro.delivery.claims import BacklogPage, Claimed, ClaimKind, ClaimRequest, ClaimResult, EndpointBacklog, Target
from loyalpro.delivery.endpoint_queue import EndpointQueue
from loyalpro.delivery.endpoint_queues import Bounds, EndpointQueues
from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.delivery.timers import COALESCE_MS

NOW = 1_763_980_200_000


def target(endpoint_id: str, account_id: str = "acct_1", host: str = "a.example") -> Target:
    return Target(
        endpoint_id, account_id, f"https://{host}/hook", (), ("whsec_x",), 0, None, ordered=False, health=HEALTHY
    )


def claimed(of: Target, *, probe: bool = False) -> Claimed:
    return Claimed("dlv_1", "evt_1", "x", b"{}", 1, 1, NOW, None, None, probe=probe, target=of)


def settlement(of: Claimed, *, succeeded: bool, due_at: int = NOW) -> Settlement:
    outcome = OutcomeCode.SUCCEEDED if succeeded else OutcomeCode.HTTP_5XX
    status = DeliveryStatus.SUCCEEDED if succeeded else DeliveryStatus.PENDING
    return Settlement(of, status, due_at, Attempt(1, NOW, outcome, "", (), None, None, None))


def end(queues: EndpointQueues, ended: Settlement, now: int) -> None:
    """The endpoint has answered, and the outcome is durable."""
    endpoint_id = ended.claimed.target.endpoint_id
    queues.slot_freed(endpoint_id, now, succeeded=ended.succeeded)
    queues.settled(ended, now)
    queues.released(endpoint_id)


def abandon(queues: EndpointQueues, claimed: Claimed, now: int) -> None:
    """The delivery was not sent, or canceled."""
    queues.slot_freed(claimed.target.endpoint_id, now, succeeded=False)
    queues.released(claimed.target.endpoint_id)


class Driver:
    """Acts as the engine for endpoints with unlimited due deliveries: every claim gets all that it asks for."""

    def __init__(self, bounds: Bounds, targets: list[Target], workers: int = 1) -> None:
        self.queues = EndpointQueues(bounds)
        self.targets = {each.endpoint_id: each for each in targets}
        self.in_flight: list[Claimed] = []
        self.started: Counter[str] = Counter()
        self.now = NOW
        self.queues.add_page(BacklogPage([EndpointBacklog(each, NOW) for each in targets], workers), NOW)

    def introduce(self, *targets: Target) -> None:
        """Hint at endpoints without queues, and introduce them."""
        self.targets |= {each.endpoint_id: each for each in targets}
        self.queues.hint([each.endpoint_id for each in targets], NOW)
        while unknown := self.queues.unknown():
            self.queues.introduce(unknown, self.targets, NOW)

    def turn(self) -> list[ClaimRequest]:
        """Claim all that may be sent now."""
        self.now += COALESCE_MS  # so that queues which wait for such a moment are asked too
        requests = self.queues.requests(self.now)
        found = [claimed(self.targets[each.endpoint_id]) for each in requests for _ in range(each.limit)]
        self.queues.claimed(requests, ClaimResult(found, self.targets), self.now)
        self.in_flight += found
        self.started.update(each.target.endpoint_id for each in found)
        return requests

    def fill(self) -> None:
        """Claim until the limits allow no more."""
        while self.turn():
            pass

    def finish(self, *, succeeded: bool) -> None:
        """End the oldest delivery."""
        end(self.queues, settlement(self.in_flight.pop(0), succeeded=succeeded), self.now)

    def count(self, account_id: str) -> int:
        return sum(each.target.account_id == account_id for each in self.in_flight)


def test_accounts_take_turns_however_many_endpoints_one_of_them_has() -> None:
    many = [target(f"we_{number}", "acct_many") for number in range(500)]
    driver = Driver(Bounds(), [*many, target("we_one", "acct_one")])
    assert [each.endpoint_id for each in driver.turn()][:2] == ["we_0", "we_one"]


def test_the_queues_of_an_account_take_turns() -> None:
    targets = [target(f"we_{number}") for number in range(5)]
    driver = Driver(Bounds(in_flight=4, endpoint_width=1), targets)
    for _ in range(200):
        driver.turn()
        driver.finish(succeeded=True)
    assert max(driver.started.values()) - min(driver.started.values()) <= 2


def test_one_account_leaves_slots_for_the_others() -> None:
    first = [target(f"we_{number}", "acct_1", f"{number}.example") for number in range(100)]
    driver = Driver(Bounds(in_flight=80), first)
    driver.fill()
    assert driver.count("acct_1") <= 40
    driver.introduce(target("we_late", "acct_2", "late.example"))
    driver.fill()
    assert driver.count("acct_2") >= 1


FAILED = Health(failures=1, failing_since=NOW)


def test_endpoints_whose_last_attempt_failed_share_half_of_all_slots() -> None:
    failing = [replace(target(f"we_{n}", f"acct_{n}", f"{n}.example"), health=FAILED) for n in range(200)]
    driver = Driver(Bounds(in_flight=80), failing)
    driver.fill()
    assert len(driver.in_flight) == 40
    assert sum(count > 1 for count in driver.started.values()) >= 4, "the first endpoints may have more than one slot"
    driver.introduce(*[target(f"we_new_{n}", f"acct_new_{n}", f"new-{n}.example") for n in range(200)])
    driver.fill()
    assert len(driver.in_flight) == 80, "healthy endpoints get slots that the others do not"


def test_endpoints_whose_last_attempt_failed_are_asked_together_and_do_not_delay_others() -> None:
    failing = [replace(target(f"we_{n}", f"acct_{n}", f"{n}.example"), health=FAILED) for n in range(40)]
    due = [EndpointBacklog(each, NOW + n) for n, each in enumerate(failing)]
    queues = EndpointQueues(Bounds())
    queues.add_page(BacklogPage([*due, EndpointBacklog(target("we_healthy"), NOW + 7)], 1), NOW)
    asked = {now: len(queues.requests(now)) for now in range(NOW, NOW + 100)}
    assert {now: count for now, count in asked.items() if count} == {NOW + 7: 1, NOW + 20: 21, NOW + 40: 19}
    queues.add_page(BacklogPage([EndpointBacklog(failing[0], NOW + 100)], 1), NOW + 100)
    assert [queues.next_at(NOW + 100), queues.requests(NOW + 119)] == [NOW + 120, []]
    queues.hint(["we_0"], NOW + 119, urgent=True)
    assert queues.requests(NOW + 119), "a manual attempt does not wait"


@pytest.mark.parametrize("known", [True, False])
def test_silent_endpoints_leave_slots_for_others_of_the_same_account(*, known: bool) -> None:
    """The silent endpoints are still healthy: an attempt that hangs does so for 30 s."""
    driver = Driver(Bounds(), [target(f"we_{number}", host=f"{number}.example") for number in range(500)])
    quiet = target("we_quiet", host="quiet.example")
    if known:
        driver.queues.add_page(BacklogPage([EndpointBacklog(quiet, NOW + 60_000)], 1), NOW)
    driver.fill()
    assert len(driver.in_flight) > 1_000
    driver.introduce(quiet)
    assert [(each.endpoint_id, each.limit) for each in driver.turn()] == [("we_quiet", 2)]


@pytest.mark.parametrize(("account_id", "host"), [("acct_{}", "victim.example"), ("acct_1", "{}.example")])
def test_endpoints_without_a_queue_keep_to_every_limit(account_id: str, host: str) -> None:
    driver = Driver(Bounds(in_flight=400, host_width=40), [])
    driver.introduce(*[target(f"we_{n}", account_id.format(n), host.format(n)) for n in range(1_000)])
    driver.fill()
    assert len(driver.in_flight) == (40 if "victim" in host else 200)


def test_a_host_has_one_width_for_the_endpoints_of_all_accounts() -> None:
    targets = [target(f"we_{number}", f"acct_{number}", "victim.example") for number in range(50)]
    for workers in (1, 4):
        driver = Driver(Bounds(host_width=40), targets, workers)
        driver.fill()
        assert len(driver.in_flight) == 40 // workers
        driver.finish(succeeded=True)
        assert driver.turn(), "a queue that waits for the host is asked when a slot is free"
        assert len(driver.in_flight) == 40 // workers


def test_a_queue_that_waits_for_a_host_is_asked_after_an_attempt_was_abandoned() -> None:
    driver = Driver(Bounds(host_width=1), [target("we_1"), target("we_2")])
    driver.fill()
    [only] = driver.in_flight
    abandon(driver.queues, only, NOW)
    assert driver.turn()


def test_the_number_of_workers_changes_the_width_of_every_queue() -> None:
    driver = Driver(Bounds(endpoint_width=4), [target("we_1")])
    driver.queues.add_page(BacklogPage([EndpointBacklog(target("we_1"), NOW)], 4), NOW)
    driver.fill()
    assert len(driver.in_flight) == 1


def test_an_endpoint_that_is_hinted_and_scanned_is_asked_once() -> None:
    queues = EndpointQueues(Bounds())
    queues.hint(["we_1"], NOW)
    queues.add_page(BacklogPage([EndpointBacklog(target("we_1"), NOW)], 1), NOW)
    assert [each.endpoint_id for each in queues.requests(NOW)] == ["we_1"]


@pytest.mark.parametrize("read", [[], [EndpointBacklog(target("we_1"), NOW + 60_000)]])
@pytest.mark.parametrize("known", [False, True])
def test_an_endpoint_that_is_hinted_during_a_scan_is_asked_at_once(read: list[EndpointBacklog], *, known: bool) -> None:
    driver = Driver(Bounds(), [])
    if known:
        driver.queues.add_page(BacklogPage([EndpointBacklog(target("we_1"), NOW + 60_000)], 1), NOW)
    driver.queues.begin_scan()
    driver.queues.hint(["we_1"], NOW, urgent=True)
    driver.queues.add_page(BacklogPage(read, 1), NOW)
    driver.introduce(target("we_1"))
    assert [(each.endpoint_id, each.kind) for each in driver.queues.requests(NOW)] == [("we_1", ClaimKind.URGENT)]


def test_an_endpoint_whose_delivery_is_settled_during_a_scan_is_not_dropped() -> None:
    driver = Driver(Bounds(idle_queues=0), [target("we_1")])
    requests = driver.queues.requests(NOW)
    first = claimed(target("we_1"))
    driver.queues.claimed(requests, ClaimResult([first], driver.targets), NOW)
    driver.queues.begin_scan()
    end(driver.queues, settlement(first, succeeded=False, due_at=NOW + 5_000), NOW)
    driver.queues.add_page(BacklogPage([], 1), NOW)
    assert [each.endpoint_id for each in driver.queues.requests(NOW + 5_000)] == ["we_1"]


@pytest.mark.parametrize("urgent", [True, False])
@pytest.mark.parametrize("enabled", [True, False])
def test_an_endpoint_that_is_hinted_during_a_claim_is_asked_in_the_next(*, urgent: bool, enabled: bool) -> None:
    """The claim may have read the database before the new delivery was committed."""
    queues = EndpointQueues(Bounds())
    queues.add_page(BacklogPage([EndpointBacklog(target("we_1"), NOW)], 1), NOW)
    requests = queues.requests(NOW)
    queues.hint(["we_1"], NOW, urgent=urgent)
    queues.claimed(requests, ClaimResult((), {"we_1": target("we_1")} if enabled else {}), NOW)
    again = queues.requests(NOW)
    assert [each.kind for each in again] == [ClaimKind.URGENT if urgent else ClaimKind.DUE]
    queues.claimed(again, ClaimResult((), {"we_1": target("we_1")}), NOW)
    queues.claimed(queues.requests(NOW), ClaimResult((), {"we_1": target("we_1")}), NOW)
    assert queues.requests(NOW) == [], "it is asked until nothing is left, and no longer"


def test_an_endpoint_whose_delivery_is_settled_during_a_claim_is_asked_in_time() -> None:
    queues = EndpointQueues(Bounds())
    queues.add_page(BacklogPage([EndpointBacklog(target("we_1"), NOW)], 1), NOW)
    in_flight = claimed(target("we_1"))
    queues.claimed(queues.requests(NOW), ClaimResult([in_flight], {"we_1": target("we_1")}), NOW)
    queues.hint(["we_1"], NOW)
    requests = queues.requests(NOW)
    end(queues, settlement(in_flight, succeeded=False, due_at=NOW + 1_000), NOW)
    queues.claimed(requests, ClaimResult((), {"we_1": target("we_1")}), NOW)
    assert queues.next_at(NOW) == NOW + 1_000


def test_a_scan_corrects_a_hint_from_before_it_began() -> None:
    queues = EndpointQueues(Bounds())
    queues.add_page(BacklogPage([EndpointBacklog(target("we_1"), NOW)], 1), NOW)
    queues.hint(["we_1"], NOW, urgent=True)
    queues.begin_scan()
    queues.add_page(BacklogPage([EndpointBacklog(target("we_1"), NOW + 1_000)], 1), NOW)
    assert queues.requests(NOW) == []
    assert [each.kind for each in queues.requests(NOW + 1_000)] == [ClaimKind.DUE]


def test_an_urgent_delivery_is_asked_for_although_the_breaker_is_open() -> None:
    queues = EndpointQueues(Bounds())
    opened = replace(target("we_1"), health=Health(failures=9, failing_since=NOW, probes=1, probe_at=NOW + 60_000))
    queues.add_page(BacklogPage([EndpointBacklog(opened, NOW)], 1), NOW)
    assert queues.requests(NOW) == []
    queues.begin_scan()
    queues.add_page(BacklogPage([EndpointBacklog(opened, NOW)], 1, urgent=["we_1", "we_2"]), NOW)
    assert [each.kind for each in queues.requests(NOW)] == [ClaimKind.URGENT]
    queues.introduce(queues.unknown(), {"we_2": target("we_2")}, NOW)
    assert [each.kind for each in queues.requests(NOW)] == [ClaimKind.URGENT]


def test_the_end_of_a_scan_drops_idle_queues_when_there_are_too_many() -> None:
    """The queues and everything that the parts keep for them are dropped."""
    queues = EndpointQueues(Bounds(host_width=1, idle_queues=100))
    for turn in range(300):
        host = f"{turn}.example"
        states = [EndpointBacklog(target(f"we_{turn}_{n}", f"acct_{turn}", host), NOW + 10**9 + turn) for n in range(3)]
        ids = [each.target.endpoint_id for each in states]
        queues.add_page(BacklogPage(states, 1, until=ids[-1]), NOW)
        moved = [replace(each, target=replace(each.target, url="https://new.example/"), due_at=NOW) for each in states]
        queues.add_page(BacklogPage(moved, 1, until=ids[-1]), NOW)
        queues.claimed([ClaimRequest(id_, 1) for id_ in ids], ClaimResult((), {}), NOW)
    assert len(queues) == 900
    queues.add_page(BacklogPage([], 1), NOW)
    assert len(queues) == 0
    assert nothing_is_kept(queues)
    assert len(queues._timers._heap) <= 900
    assert queues.next_at(NOW + 10**10) is None or not queues.requests(NOW + 10**10)


def test_idle_queues_are_kept_while_they_are_few() -> None:
    driver = Driver(Bounds(idle_queues=100), [target(f"we_{n}") for n in range(100)])
    while requests := driver.queues.requests(NOW):
        driver.queues.claimed(requests, ClaimResult((), driver.targets), NOW)
    driver.queues.add_page(BacklogPage([], 1), NOW)
    driver.queues.hint(["we_7"], NOW)
    assert driver.queues.unknown() == []
    assert [each.endpoint_id for each in driver.queues.requests(NOW)] == ["we_7"]


def nothing_is_kept(queues: EndpointQueues) -> bool:
    """Whether no part has anything of a queue that was dropped."""
    admission, hints = queues._admission, queues._hints
    return not (admission._accounts or admission._waiting or queues._destinations._by_host or hints.has_unknown)


HOSTS = ("a.example", "b.example")
ACCOUNTS = ("acct_1", "acct_2", "acct_3")
ENDPOINTS = tuple(f"we_{number}" for number in range(9))
BOUNDS = Bounds(in_flight=24, endpoint_width=6, host_width=10, idle_queues=0)


@dataclass
class Row:
    """An endpoint in the database of the model: how many deliveries are due, and when the later ones will be."""

    target: Target
    enabled: bool = True
    due: int = 0
    later: list[int] = field(default_factory=list)

    def ripen(self, now: int) -> None:
        self.due += sum(at <= now for at in self.later)
        self.later = [at for at in self.later if at > now]


class Model(RuleBasedStateMachine):
    """The calls of the engine in any order, with a database that has all deliveries."""

    def __init__(self) -> None:
        super().__init__()
        self.queues = EndpointQueues(BOUNDS)
        self.now = NOW
        self.scanned_to = 0
        self.rows = {
            id_: Row(target(id_, ACCOUNTS[number % 3], HOSTS[number % 2])) for number, id_ in enumerate(ENDPOINTS)
        }
        self.in_flight: list[Claimed] = []

    def count_in_flight(self, endpoint_id: str) -> int:
        return sum(each.target.endpoint_id == endpoint_id for each in self.in_flight)

    @rule(endpoint_id=st.sampled_from(ENDPOINTS), count=st.integers(1, 20), urgent=st.booleans(), hinted=st.booleans())
    def add_due(self, *, endpoint_id: str, count: int, urgent: bool, hinted: bool) -> None:
        self.rows[endpoint_id].due += count
        if hinted:
            self.queues.hint([endpoint_id], self.now, urgent=urgent)

    @rule(endpoint_id=st.sampled_from(ENDPOINTS), enabled=st.booleans())
    def switch(self, *, endpoint_id: str, enabled: bool) -> None:
        self.rows[endpoint_id].enabled = enabled
        self.queues.hint([endpoint_id], self.now)

    @rule(
        endpoint_id=st.sampled_from(ENDPOINTS), host=st.sampled_from(HOSTS), rate=st.sampled_from((None, None, 1, 50))
    )
    def edit(self, endpoint_id: str, host: str, rate: int | None) -> None:
        row = self.rows[endpoint_id]
        row.target = replace(row.target, url=f"https://{host}/hook", rate_limit=rate)

    @rule(endpoint_id=st.sampled_from(ENDPOINTS), wait_ms=st.integers(1, 5_000), shape=st.sampled_from("obh"))
    def observe(self, endpoint_id: str, wait_ms: int, shape: str) -> None:
        """The breaker of an endpoint opens, begins to recover, or closes, because of a result of this worker or of another one."""
        health = {
            "o": Health(failures=9, failing_since=self.now, probes=1, probe_at=self.now + wait_ms),
            "b": Health(recovered_at=self.now),
            "h": HEALTHY,
        }[shape]
        self.rows[endpoint_id].target = replace(self.rows[endpoint_id].target, health=health)
        if wait_ms % 2:
            self.queues.health_changed({endpoint_id: health}, self.now)

    @rule(workers=st.integers(0, 4))
    def scan(self, workers: int) -> None:
        """A whole scan, with nothing in between."""
        self.scanned_to = 0
        self.page(workers, len(ENDPOINTS))

    @rule(workers=st.integers(0, 4), size=st.integers(1, 4))
    def page(self, workers: int, size: int) -> None:
        """The next page of a scan; anything may happen before the one that follows."""
        states = []
        rows = list(self.rows.values())[self.scanned_to :][:size]
        for row in rows:
            if row.enabled and (row.due or row.later):
                due_at = self.now if row.due else min(row.later)
                states.append(EndpointBacklog(row.target, due_at))
        if not self.scanned_to:
            self.queues.begin_scan()
        self.scanned_to += size
        ends = self.scanned_to >= len(self.rows)
        self.queues.add_page(
            BacklogPage(states, workers, until=None if ends else rows[-1].target.endpoint_id), self.now
        )
        if ends:
            self.scanned_to = 0

    @rule(seconds=st.sampled_from((0.001, 0.05, 1.0, 40.0)))
    def wait(self, seconds: float) -> None:
        self.now += round(seconds * 1_000)
        for row in self.rows.values():
            row.ripen(self.now)

    @rule(misses=st.integers(0, 3), late=st.booleans())
    def dispatch(self, misses: int, *, late: bool = False) -> None:
        """Claim. `misses`: deliveries that another worker leases first. `late`: new deliveries follow the claim, with a hint."""
        known = {id_: row.target for id_, row in self.rows.items() if row.enabled}
        self.queues.introduce(self.queues.unknown(), known, self.now)
        requests = self.queues.requests(self.now)
        self.check(requests)
        found: list[Claimed] = []
        targets: dict[str, Target] = {}
        for request in requests:
            row = self.rows[request.endpoint_id]
            if row.enabled:
                targets[request.endpoint_id] = row.target
                count = max(0, min(request.limit, row.due) - misses)
                if row.target.health.is_open and request.kind is ClaimKind.DUE:
                    count = 0
                row.due -= count
                found += [claimed(row.target, probe=request.kind is ClaimKind.PROBE) for _ in range(count)]
        if late:
            for request in requests:
                self.add_due(endpoint_id=request.endpoint_id, count=1, urgent=False, hinted=True)
        self.in_flight += found
        self.queues.claimed(requests, ClaimResult(found, targets), self.now)
        assert not late or all(self.queues._queues[each.endpoint_id].due_at is not None for each in requests)

    def check(self, requests: list[ClaimRequest]) -> None:
        """No endpoint is asked twice, and no request exceeds a limit that is not exceeded already."""
        assert len({each.endpoint_id for each in requests}) == len(requests)
        known = [(self.queues._queues[each.endpoint_id], each) for each in requests]
        asked = sum(each.limit for each in requests)
        assert not asked or asked + len(self.in_flight) <= BOUNDS.in_flight
        hosts, accounts = Counter[str](), Counter[str]()
        for queue, request in known:
            assert 0 < request.limit <= queue.width - queue.in_flight
            assert request.kind is ClaimKind.URGENT or not queue.is_silent(self.now)
            hosts[queue.target.host] += request.limit
            accounts[queue.target.account_id] += request.limit
        for host, room in hosts.items():
            destination = self.queues._destinations._by_host[host]
            assert room + destination.in_flight <= destination.width
        for account_id, room in accounts.items():
            mine = self.queues._admission._accounts[account_id].in_flight
            assert room <= (BOUNDS.in_flight - (len(self.in_flight) - mine)) // 2 - mine
        taken = len(self.in_flight)
        for queue, request in known:
            assert taken < BOUNDS.in_flight // (1 if queue.is_healthy else 2)
            taken += request.limit

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), succeeded=st.booleans(), wait_ms=st.integers(0, 5_000))
    def finish(self, data: st.DataObject, *, succeeded: bool, wait_ms: int) -> None:
        index = data.draw(st.integers(0, len(self.in_flight) - 1))
        ended = self.in_flight.pop(index)
        if not succeeded:
            self.rows[ended.target.endpoint_id].later.append(self.now + wait_ms)
            self.rows[ended.target.endpoint_id].ripen(self.now)
        end(self.queues, settlement(ended, succeeded=succeeded, due_at=self.now + wait_ms), self.now)

    @precondition(lambda self: self.in_flight)
    @rule()
    def abandon(self) -> None:
        ended = self.in_flight.pop(0)
        self.rows[ended.target.endpoint_id].due += 1
        abandon(self.queues, ended, self.now)

    @invariant()
    def counters_equal_what_was_started_minus_what_has_ended(self) -> None:
        queues = self.queues._queues
        assert self.queues.in_flight == len(self.in_flight)
        for endpoint_id in ENDPOINTS:
            in_flight = self.count_in_flight(endpoint_id)
            assert (queues[endpoint_id].in_flight if endpoint_id in queues else 0) == in_flight
        for account_id, account in self.queues._admission._accounts.items():
            assert account.in_flight == sum(each.target.account_id == account_id for each in self.in_flight)
        destinations = self.queues._destinations._by_host
        by_host = Counter(dict.fromkeys(destinations, 0))
        for queue in queues.values():
            assert destinations[queue.target.host] is queue.destination
            by_host[queue.target.host] += queue.in_flight
        assert by_host == {host: each.in_flight for host, each in destinations.items()}

    @invariant()
    def every_queue_with_due_deliveries_is_asked_in_the_end(self) -> None:
        for queue in self.queues._queues.values():
            if queue.due_at is not None:
                assert self.is_placed(queue), repr(queue)
        for destination in self.queues._destinations:
            assert destination.is_full or not set(destination.waiting) - set(self.ready()), (
                "a slot is free, and they wait"
            )
        if self.queues._admission._waiting and not self.in_flight:
            next_at = self.queues.next_at(self.now)
            assert next_at is not None
            assert next_at <= self.now + COALESCE_MS, "a queue waits for the end of a delivery, or for the next moment"

    def ready(self) -> list[str]:
        return [id_ for account in self.queues._admission._accounts.values() for id_ in account.ready]

    def is_placed(self, queue: EndpointQueue) -> bool:
        """Whether it is ready, has a timer, waits for its host or for a slot, or is full, silent, or being probed."""
        probed = queue.target.health.is_open and queue.in_flight > 0 and not queue.urgent
        full = queue.in_flight >= min(queue.window, queue.width)
        timed = queue.timer_at is not None and (queue.timer_at, queue.endpoint_id) in self.queues._timers._heap
        waiting = self.queues._admission._waiting
        waits = queue.endpoint_id in queue.destination.waiting or queue.endpoint_id in waiting
        silent = queue.is_silent(self.now) and not queue.urgent
        return probed or full or silent or timed or waits or queue.endpoint_id in self.ready()

    def teardown(self) -> None:
        """In the end every delivery is sent, and nothing is kept."""
        for row in self.rows.values():
            row.enabled, row.target = True, replace(row.target, health=HEALTHY)
        for _ in range(1_000):
            while self.in_flight:
                end(self.queues, settlement(self.in_flight.pop(0), succeeded=True), self.now)
            if not any(row.due or row.later for row in self.rows.values()):
                break
            self.wait(1.0)
            self.scan(1)
            self.dispatch(0)
        assert not any(row.due or row.later for row in self.rows.values())
        for _ in range(3):  # a queue without due deliveries is asked once more, when its rate allows it
            self.wait(1.0)
            self.dispatch(0)
        self.scan(1)
        assert (len(self.queues), self.queues.in_flight) == (0, 0)
        assert nothing_is_kept(self.queues)


Model.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None, report_multiple_bugs=False)
TestEndpointQueues = Model.TestCase
