"""All lanes of a process against a model of the database: counters, bounds, fair turns, and nothing forgotten or leaked."""

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.breaker import HEALTHY, Health
from loyalpro.delivery.claims import BacklogPage, Claimed, ClaimKind, ClaimRequest, ClaimResult, EndpointBacklog, Target
from loyalpro.delivery.lane import Lane
from loyalpro.delivery.lanes import Bounds, Lanes
from loyalpro.delivery.settlement import Attempt, Settlement
from loyalpro.delivery.states import DeliveryStatus

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


def end(lanes: Lanes, ended: Settlement, now: int) -> None:
    """The endpoint has answered, and what became of it is durable."""
    place = lanes.place(ended.claimed)
    place.free(now, succeeded=ended.succeeded)
    lanes.settled(ended, now)
    place.leave(now)


class Driver:
    """Plays the engine for lanes that are owed without end: asks, and gets all that it asks for."""

    def __init__(self, bounds: Bounds, targets: list[Target], workers: int = 1) -> None:
        self.lanes = Lanes(bounds)
        self.targets = {each.endpoint_id: each for each in targets}
        self.in_flight: list[Claimed] = []
        self.started: Counter[str] = Counter()
        self.now = NOW
        self.lanes.survey(BacklogPage([EndpointBacklog(each, NOW) for each in targets], workers), NOW)

    def introduce(self, *targets: Target) -> None:
        """They are owed something, and nothing is known of them but where they are."""
        self.targets |= {each.endpoint_id: each for each in targets}
        self.lanes.hint([each.endpoint_id for each in targets], NOW)
        while unknown := self.lanes.unknown():
            self.lanes.introduce(unknown, self.targets, NOW)

    def turn(self) -> list[ClaimRequest]:
        """One look at what may be sent, and all of it started."""
        self.now += 20  # so that those in no hurry are asked too
        requests = self.lanes.requests(self.now)
        found = [claimed(self.targets[each.endpoint_id]) for each in requests for _ in range(each.limit)]
        self.lanes.claimed(requests, ClaimResult(found, self.targets), self.now)
        self.in_flight += found
        self.started.update(each.target.endpoint_id for each in found)
        return requests

    def fill(self) -> None:
        """Start all that may be under way at once."""
        while self.turn():
            pass

    def finish(self, *, succeeded: bool) -> None:
        """The oldest one ends."""
        end(self.lanes, settlement(self.in_flight.pop(0), succeeded=succeeded), self.now)

    def count(self, account_id: str) -> int:
        return sum(each.target.account_id == account_id for each in self.in_flight)


def test_accounts_take_turns_however_many_endpoints_one_of_them_has() -> None:
    many = [target(f"we_{number}", "acct_many") for number in range(500)]
    driver = Driver(Bounds(), [*many, target("we_one", "acct_one")])
    assert [each.endpoint_id for each in driver.turn()][:2] == ["we_0", "we_one"]


def test_the_lanes_of_an_account_take_turns() -> None:
    lanes = [target(f"we_{number}") for number in range(5)]
    driver = Driver(Bounds(in_flight=4, lane_width=1), lanes)
    for _ in range(200):
        driver.turn()
        driver.finish(succeeded=True)
    assert max(driver.started.values()) - min(driver.started.values()) <= 2


def test_one_account_leaves_room_for_the_others() -> None:
    first = [target(f"we_{number}", "acct_1", f"{number}.example") for number in range(100)]
    driver = Driver(Bounds(in_flight=80), first)
    driver.fill()
    assert driver.count("acct_1") <= 40
    driver.introduce(target("we_late", "acct_2", "late.example"))
    driver.fill()
    assert driver.count("acct_2") >= 1


FAILED = Health(failures=1, failing_since=NOW)


def test_endpoints_whose_last_attempt_failed_share_half_of_all_places() -> None:
    failing = [replace(target(f"we_{n}", f"acct_{n}", f"{n}.example"), health=FAILED) for n in range(200)]
    driver = Driver(Bounds(in_flight=80), failing)
    driver.fill()
    assert len(driver.in_flight) == 40
    assert sum(count > 1 for count in driver.started.values()) >= 4, "the first ones may have more than one place"
    driver.introduce(*[target(f"we_new_{n}", f"acct_new_{n}", f"new-{n}.example") for n in range(200)])
    driver.fill()
    assert len(driver.in_flight) == 80, "one that nothing speaks against gets places that they do not"


def test_endpoints_whose_last_attempt_failed_are_asked_together_and_do_not_keep_others_waiting() -> None:
    failing = [replace(target(f"we_{n}", f"acct_{n}", f"{n}.example"), health=FAILED) for n in range(40)]
    due = [EndpointBacklog(each, NOW + n) for n, each in enumerate(failing)]
    lanes = Lanes(Bounds())
    lanes.survey(BacklogPage([*due, EndpointBacklog(target("we_well"), NOW + 7)], 1), NOW)
    asked = {now: len(lanes.requests(now)) for now in range(NOW, NOW + 100)}
    assert {now: count for now, count in asked.items() if count} == {NOW + 7: 1, NOW + 20: 21, NOW + 40: 19}
    lanes.survey(BacklogPage([EndpointBacklog(failing[0], NOW + 100)], 1), NOW + 100)
    assert [lanes.next_at(NOW + 100), lanes.requests(NOW + 119)] == [NOW + 120, []]
    lanes.hint(["we_0"], NOW + 119, urgent=True)
    assert lanes.requests(NOW + 119), "what is sent by hand does not wait"


@pytest.mark.parametrize("known", [True, False])
def test_the_silent_endpoints_of_an_account_leave_places_for_its_others(*, known: bool) -> None:
    """Nothing speaks against those yet: an attempt that hangs does so for 30 s."""
    driver = Driver(Bounds(), [target(f"we_{number}", host=f"{number}.example") for number in range(500)])
    quiet = target("we_quiet", host="quiet.example")
    if known:
        driver.lanes.survey(BacklogPage([EndpointBacklog(quiet, NOW + 60_000)], 1), NOW)
    driver.fill()
    assert len(driver.in_flight) > 1_000
    driver.introduce(quiet)
    assert [(each.endpoint_id, each.limit) for each in driver.turn()] == [("we_quiet", 2)]


@pytest.mark.parametrize(("account_id", "host"), [("acct_{}", "victim.example"), ("acct_1", "{}.example")])
def test_endpoints_that_were_not_known_before_keep_to_every_bound(account_id: str, host: str) -> None:
    driver = Driver(Bounds(in_flight=400, host_width=40), [])
    driver.introduce(*[target(f"we_{n}", account_id.format(n), host.format(n)) for n in range(1_000)])
    driver.fill()
    assert len(driver.in_flight) == (40 if "victim" in host else 200)


def test_a_host_has_a_width_whoever_its_endpoints_belong_to() -> None:
    lanes = [target(f"we_{number}", f"acct_{number}", "victim.example") for number in range(50)]
    for workers in (1, 4):
        driver = Driver(Bounds(host_width=40), lanes, workers)
        driver.fill()
        assert len(driver.in_flight) == 40 // workers
        driver.finish(succeeded=True)
        assert driver.turn(), "whoever waited for the host is asked when there is room"
        assert len(driver.in_flight) == 40 // workers


def test_what_waits_for_a_host_goes_on_when_an_attempt_is_abandoned() -> None:
    driver = Driver(Bounds(host_width=1), [target("we_1"), target("we_2")])
    driver.fill()
    [only] = driver.in_flight
    driver.lanes.place(only).leave(NOW)
    assert driver.turn()


def test_workers_that_come_and_go_change_the_width_of_every_lane() -> None:
    driver = Driver(Bounds(lane_width=4), [target("we_1")])
    driver.lanes.survey(BacklogPage([EndpointBacklog(target("we_1"), NOW)], 4), NOW)
    driver.fill()
    assert len(driver.in_flight) == 1


def test_what_is_known_and_hinted_is_asked_for_once() -> None:
    lanes = Lanes(Bounds())
    lanes.hint(["we_1"], NOW)
    lanes.survey(BacklogPage([EndpointBacklog(target("we_1"), NOW)], 1), NOW)
    assert [each.endpoint_id for each in lanes.requests(NOW)] == ["we_1"]


@pytest.mark.parametrize("read", [[], [EndpointBacklog(target("we_1"), NOW + 60_000)]])
@pytest.mark.parametrize("known", [False, True])
def test_what_is_hinted_while_a_survey_reads_is_asked_for_at_once(read: list[EndpointBacklog], *, known: bool) -> None:
    driver = Driver(Bounds(), [])
    if known:
        driver.lanes.survey(BacklogPage([EndpointBacklog(target("we_1"), NOW + 60_000)], 1), NOW)
    driver.lanes.surveying()
    driver.lanes.hint(["we_1"], NOW, urgent=True)
    driver.lanes.survey(BacklogPage(read, 1), NOW)
    driver.introduce(target("we_1"))
    assert [(each.endpoint_id, each.kind) for each in driver.lanes.requests(NOW)] == [("we_1", ClaimKind.URGENT)]


def test_what_is_settled_while_a_survey_reads_is_not_forgotten() -> None:
    driver = Driver(Bounds(lanes=0), [target("we_1")])
    requests = driver.lanes.requests(NOW)
    first = claimed(target("we_1"))
    driver.lanes.claimed(requests, ClaimResult([first], driver.targets), NOW)
    driver.lanes.surveying()
    end(driver.lanes, settlement(first, succeeded=False, due_at=NOW + 5_000), NOW)
    driver.lanes.survey(BacklogPage([], 1), NOW)
    assert [each.endpoint_id for each in driver.lanes.requests(NOW + 5_000)] == ["we_1"]


@pytest.mark.parametrize("urgent", [True, False])
@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_hinted_while_a_claim_is_under_way_is_asked_for_next(*, urgent: bool, enabled: bool) -> None:
    """The claim may have looked before it was committed."""
    lanes = Lanes(Bounds())
    lanes.survey(BacklogPage([EndpointBacklog(target("we_1"), NOW)], 1), NOW)
    requests = lanes.requests(NOW)
    lanes.hint(["we_1"], NOW, urgent=urgent)
    lanes.claimed(requests, ClaimResult((), {"we_1": target("we_1")} if enabled else {}), NOW)
    again = lanes.requests(NOW)
    assert [each.kind for each in again] == [ClaimKind.URGENT if urgent else ClaimKind.DUE]
    lanes.claimed(again, ClaimResult((), {"we_1": target("we_1")}), NOW)
    lanes.claimed(lanes.requests(NOW), ClaimResult((), {"we_1": target("we_1")}), NOW)
    assert lanes.requests(NOW) == [], "it is asked for until nothing is left, and no longer"


def test_what_is_settled_while_a_claim_is_under_way_is_asked_for_in_time() -> None:
    lanes = Lanes(Bounds())
    lanes.survey(BacklogPage([EndpointBacklog(target("we_1"), NOW)], 1), NOW)
    under_way = claimed(target("we_1"))
    lanes.claimed(lanes.requests(NOW), ClaimResult([under_way], {"we_1": target("we_1")}), NOW)
    lanes.hint(["we_1"], NOW)
    requests = lanes.requests(NOW)
    end(lanes, settlement(under_way, succeeded=False, due_at=NOW + 1_000), NOW)
    lanes.claimed(requests, ClaimResult((), {"we_1": target("we_1")}), NOW)
    assert lanes.next_at(NOW) == NOW + 1_000


def test_a_survey_corrects_what_was_hinted_before_it_began() -> None:
    lanes = Lanes(Bounds())
    lanes.survey(BacklogPage([EndpointBacklog(target("we_1"), NOW)], 1), NOW)
    lanes.hint(["we_1"], NOW, urgent=True)
    lanes.surveying()
    lanes.survey(BacklogPage([EndpointBacklog(target("we_1"), NOW + 1_000)], 1), NOW)
    assert lanes.requests(NOW) == []
    assert [each.kind for each in lanes.requests(NOW + 1_000)] == [ClaimKind.DUE]


def test_what_cannot_wait_is_asked_for_although_the_breaker_is_open() -> None:
    lanes = Lanes(Bounds())
    opened = replace(target("we_1"), health=Health(failures=9, failing_since=NOW, probes=1, probe_at=NOW + 60_000))
    lanes.survey(BacklogPage([EndpointBacklog(opened, NOW)], 1), NOW)
    assert lanes.requests(NOW) == []
    lanes.surveying()
    lanes.survey(BacklogPage([EndpointBacklog(opened, NOW)], 1, urgent=["we_1", "we_2"]), NOW)
    assert [each.kind for each in lanes.requests(NOW)] == [ClaimKind.URGENT]
    lanes.introduce(lanes.unknown(), {"we_2": target("we_2")}, NOW)
    assert [each.kind for each in lanes.requests(NOW)] == [ClaimKind.URGENT]


def test_too_many_endpoints_that_are_owed_nothing_are_forgotten_when_all_have_been_looked_at() -> None:
    """Together with all that was kept for them."""
    lanes = Lanes(Bounds(host_width=1, lanes=100))
    for turn in range(300):
        host = f"{turn}.example"
        states = [EndpointBacklog(target(f"we_{turn}_{n}", f"acct_{turn}", host), NOW + 10**9 + turn) for n in range(3)]
        ids = [each.target.endpoint_id for each in states]
        lanes.survey(BacklogPage(states, 1, until=ids[-1]), NOW)
        moved = [replace(each, target=replace(each.target, url="https://new.example/"), due_at=NOW) for each in states]
        lanes.survey(BacklogPage(moved, 1, until=ids[-1]), NOW)
        lanes.claimed([ClaimRequest(id_, 1) for id_ in ids], ClaimResult((), {}), NOW)
    assert len(lanes) == 900
    lanes.survey(BacklogPage([], 1), NOW)
    assert len(lanes) == 0
    assert (lanes._accounts, lanes._destinations, lanes._unknown, lanes._held) == ({}, {}, {}, {})
    assert len(lanes._alarms) <= 900
    assert lanes.next_at(NOW + 10**10) is None or not lanes.requests(NOW + 10**10)


def test_endpoints_that_are_owed_nothing_are_remembered_while_they_are_few() -> None:
    driver = Driver(Bounds(lanes=100), [target(f"we_{n}") for n in range(100)])
    while requests := driver.lanes.requests(NOW):
        driver.lanes.claimed(requests, ClaimResult((), driver.targets), NOW)
    driver.lanes.survey(BacklogPage([], 1), NOW)
    driver.lanes.hint(["we_7"], NOW)
    assert driver.lanes.unknown() == []
    assert [each.endpoint_id for each in driver.lanes.requests(NOW)] == ["we_7"]


HOSTS = ("a.example", "b.example")
ACCOUNTS = ("acct_1", "acct_2", "acct_3")
ENDPOINTS = tuple(f"we_{number}" for number in range(9))
BOUNDS = Bounds(in_flight=24, lane_width=6, host_width=10, lanes=0)


@dataclass
class Row:
    """An endpoint in the database of the model: how much is due, and how much is under way from here."""

    target: Target
    enabled: bool = True
    due: int = 0
    later: list[int] = field(default_factory=list)

    def ripen(self, now: int) -> None:
        self.due += sum(at <= now for at in self.later)
        self.later = [at for at in self.later if at > now]


class AllLanes(RuleBasedStateMachine):
    """The engine's calls in any order, with a database that knows the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes(BOUNDS)
        self.now = NOW
        self.surveyed_to = 0
        self.rows = {
            id_: Row(target(id_, ACCOUNTS[number % 3], HOSTS[number % 2])) for number, id_ in enumerate(ENDPOINTS)
        }
        self.in_flight: list[Claimed] = []

    def on_their_way(self, endpoint_id: str) -> int:
        return sum(each.target.endpoint_id == endpoint_id for each in self.in_flight)

    @rule(endpoint_id=st.sampled_from(ENDPOINTS), count=st.integers(1, 20), urgent=st.booleans(), hinted=st.booleans())
    def owe(self, *, endpoint_id: str, count: int, urgent: bool, hinted: bool) -> None:
        self.rows[endpoint_id].due += count
        if hinted:
            self.lanes.hint([endpoint_id], self.now, urgent=urgent)

    @rule(endpoint_id=st.sampled_from(ENDPOINTS), enabled=st.booleans())
    def switch(self, *, endpoint_id: str, enabled: bool) -> None:
        self.rows[endpoint_id].enabled = enabled
        self.lanes.hint([endpoint_id], self.now)

    @rule(
        endpoint_id=st.sampled_from(ENDPOINTS), host=st.sampled_from(HOSTS), rate=st.sampled_from((None, None, 1, 50))
    )
    def edit(self, endpoint_id: str, host: str, rate: int | None) -> None:
        row = self.rows[endpoint_id]
        row.target = replace(row.target, url=f"https://{host}/hook", rate_limit=rate)

    @rule(endpoint_id=st.sampled_from(ENDPOINTS), wait_ms=st.integers(1, 5_000), shape=st.sampled_from("obh"))
    def observe(self, endpoint_id: str, wait_ms: int, shape: str) -> None:
        """Its breaker opens, begins to recover, or is closed; perhaps another worker saw it."""
        health = {
            "o": Health(failures=9, failing_since=self.now, probes=1, probe_at=self.now + wait_ms),
            "b": Health(recovered_at=self.now),
            "h": HEALTHY,
        }[shape]
        self.rows[endpoint_id].target = replace(self.rows[endpoint_id].target, health=health)
        if wait_ms % 2:
            self.lanes.learned({endpoint_id: health}, self.now)

    @rule(workers=st.integers(0, 4))
    def survey(self, workers: int) -> None:
        """All of it, with nothing in between."""
        self.surveyed_to = 0
        self.page(workers, len(ENDPOINTS))

    @rule(workers=st.integers(0, 4), size=st.integers(1, 4))
    def page(self, workers: int, size: int) -> None:
        """The next page of a survey; anything may happen before the one that follows."""
        states = []
        rows = list(self.rows.values())[self.surveyed_to :][:size]
        for row in rows:
            if row.enabled and (row.due or row.later):
                due_at = self.now if row.due else min(row.later)
                states.append(EndpointBacklog(row.target, due_at))
        if not self.surveyed_to:
            self.lanes.surveying()
        self.surveyed_to += size
        ends = self.surveyed_to >= len(self.rows)
        self.lanes.survey(BacklogPage(states, workers, until=None if ends else rows[-1].target.endpoint_id), self.now)
        if ends:
            self.surveyed_to = 0

    @rule(seconds=st.sampled_from((0.001, 0.05, 1.0, 40.0)))
    def wait(self, seconds: float) -> None:
        self.now += round(seconds * 1_000)
        for row in self.rows.values():
            row.ripen(self.now)

    @rule(misses=st.integers(0, 3), late=st.booleans())
    def dispatch(self, misses: int, *, late: bool = False) -> None:
        """ClaimResult bring what is due, or less when another worker is quicker; what comes too `late` for it is hinted."""
        known = {id_: row.target for id_, row in self.rows.items() if row.enabled}
        self.lanes.introduce(self.lanes.unknown(), known, self.now)
        requests = self.lanes.requests(self.now)
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
                self.owe(endpoint_id=request.endpoint_id, count=1, urgent=False, hinted=True)
        self.in_flight += found
        self.lanes.claimed(requests, ClaimResult(found, targets), self.now)
        assert not late or all(self.lanes._lanes[each.endpoint_id].due_at is not None for each in requests)

    def check(self, requests: list[ClaimRequest]) -> None:
        """Nobody is asked for twice, and nothing that is asked for would break a bound that it does not break already."""
        assert len({each.endpoint_id for each in requests}) == len(requests)
        known = [(self.lanes._lanes[each.endpoint_id], each) for each in requests]
        asked = sum(each.limit for each in requests)
        assert not asked or asked + len(self.in_flight) <= BOUNDS.in_flight
        hosts, accounts = Counter[str](), Counter[str]()
        for lane, request in known:
            assert 0 < request.limit <= lane.width - lane.in_flight
            assert request.kind is ClaimKind.URGENT or not lane.is_silent(self.now)
            hosts[lane.target.host] += request.limit
            accounts[lane.target.account_id] += request.limit
        for host, room in hosts.items():
            destination = self.lanes._destinations[host]
            assert room + destination.in_flight <= destination.width
        for account_id, room in accounts.items():
            mine = self.lanes._accounts[account_id].in_flight
            assert room <= (BOUNDS.in_flight - (len(self.in_flight) - mine)) // 2 - mine
        taken = len(self.in_flight)
        for lane, request in known:
            assert taken < BOUNDS.in_flight // (1 if lane.proven else 2)
            taken += request.limit

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), succeeded=st.booleans(), wait_ms=st.integers(0, 5_000))
    def finish(self, data: st.DataObject, *, succeeded: bool, wait_ms: int) -> None:
        index = data.draw(st.integers(0, len(self.in_flight) - 1))
        ended = self.in_flight.pop(index)
        if not succeeded:
            self.rows[ended.target.endpoint_id].later.append(self.now + wait_ms)
            self.rows[ended.target.endpoint_id].ripen(self.now)
        end(self.lanes, settlement(ended, succeeded=succeeded, due_at=self.now + wait_ms), self.now)

    @precondition(lambda self: self.in_flight)
    @rule()
    def abandon(self) -> None:
        ended = self.in_flight.pop(0)
        self.rows[ended.target.endpoint_id].due += 1
        self.lanes.place(ended).leave(self.now)

    @invariant()
    def counters_equal_what_was_started_minus_what_has_ended(self) -> None:
        lanes = self.lanes._lanes
        assert self.lanes.in_flight == len(self.in_flight)
        for endpoint_id in ENDPOINTS:
            on_their_way = self.on_their_way(endpoint_id)
            assert (lanes[endpoint_id].in_flight if endpoint_id in lanes else 0) == on_their_way
        for account_id, account in self.lanes._accounts.items():
            assert account.in_flight == sum(each.target.account_id == account_id for each in self.in_flight)
        by_host = Counter(dict.fromkeys(self.lanes._destinations, 0))
        for lane in lanes.values():
            assert self.lanes._destinations[lane.target.host] is lane.destination
            by_host[lane.target.host] += lane.in_flight
        assert by_host == {host: each.in_flight for host, each in self.lanes._destinations.items()}

    @invariant()
    def no_lane_with_due_work_is_forgotten(self) -> None:
        for lane in self.lanes._lanes.values():
            if lane.due_at is not None:
                assert self.has_a_place(lane), repr(lane)
        for destination in self.lanes._destinations.values():
            assert destination.is_full or not set(destination.waiting) - set(self.ready()), (
                "there is room, and they wait"
            )
        if self.lanes._held and not self.in_flight:
            next_at = self.lanes.next_at(self.now)
            assert next_at is not None
            assert next_at <= self.now + 20, "what is held waits for the end of something, or for the next moment"

    def ready(self) -> list[str]:
        return [id_ for account in self.lanes._accounts.values() for id_ in account.ready]

    def has_a_place(self, lane: Lane) -> bool:
        """Ready, alarmed, waiting for its host, held for want of places, or full, silent, or being probed."""
        probed = lane.target.health.is_open and lane.in_flight > 0 and not lane.urgent
        full = lane.in_flight >= min(lane.window, lane.width)
        alarmed = lane.alarm_at is not None and (lane.alarm_at, lane.endpoint_id) in self.lanes._alarms
        waits = lane.endpoint_id in lane.destination.waiting or lane.endpoint_id in self.lanes._held
        silent = lane.is_silent(self.now) and not lane.urgent
        return probed or full or silent or alarmed or waits or lane.endpoint_id in self.ready()

    def teardown(self) -> None:
        """In the end all of it goes out, and nothing is left behind."""
        for row in self.rows.values():
            row.enabled, row.target = True, replace(row.target, health=HEALTHY)
        for _ in range(1_000):
            while self.in_flight:
                end(self.lanes, settlement(self.in_flight.pop(0), succeeded=True), self.now)
            if not any(row.due or row.later for row in self.rows.values()):
                break
            self.wait(1.0)
            self.survey(1)
            self.dispatch(0)
        assert not any(row.due or row.later for row in self.rows.values())
        for _ in range(3):  # what is not owed any more is asked for once, when its rate allows it
            self.wait(1.0)
            self.dispatch(0)
        self.survey(1)
        assert (len(self.lanes), self.lanes.in_flight) == (0, 0)
        assert (self.lanes._accounts, self.lanes._destinations, self.lanes._held) == ({}, {}, {})


AllLanes.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, report_multiple_bugs=False
)
TestAllLanes = AllLanes.TestCase
