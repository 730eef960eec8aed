"""All lanes of a process: which of them may be asked for work now, in fair turns, and when the next one will be.

Three bounds keep everybody's deliveries flowing. An account may take half of the places that the others leave, so there
are always some for one more. The fuller these are, the better a lane has to be to get one, so thousands of endpoints that
hang leave room for those that answer (`_room`). And a destination host has a width of its own, whoever's endpoints point
to it, so that nobody can turn us against a third party.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loyalpro.delivery.breaker import Health
from loyalpro.delivery.claims import BacklogPage, Claimed, ClaimRequest, ClaimResult, EndpointBacklog, Target
from loyalpro.delivery.lane import Destination, Lane
from loyalpro.delivery.schedule import MOMENT_MS
from loyalpro.delivery.settlement import Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs

_LANES_A_TURN = 64
_CLAIMS_A_LANE = 64
_ALARMS_A_LANE = 4
_SPARE_ALARMS = 64


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be under way at once: in all, to one endpoint, to one host. Workers divide the last two.

    `lanes`: how many are remembered while they are owed nothing.
    """

    in_flight: int = 5_000
    lane_width: int = 64
    host_width: int = 256
    lanes: int = 10_000


@dataclass(slots=True)
class _Account:
    """One account's lanes that can be asked now, first come first served, and what it has under way."""

    in_flight: int = 0
    ready: dict[str, Lane] = field(default_factory=dict)


@dataclass(slots=True)
class _Plan:
    """What a turn may still ask for, and what it has asked for already: nothing of that is under way yet."""

    free: int
    accounts: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)

    def note(self, lane: Lane, room: int) -> None:
        """So much of it is promised to this lane."""
        self.free -= room
        self.accounts[lane.target.account_id] += room
        self.hosts[lane.target.host] += room


class Lanes:
    """What this process knows of the work there is. The database knows better: a survey corrects it."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._share = 1
        self._lanes: dict[str, Lane] = {}
        self._accounts: dict[str, _Account] = {}
        self._destinations: dict[str, Destination] = {}
        self._unknown: dict[str, bool] = {}
        self._heard: set[str] = set()
        self._news: dict[str, tuple[UnixMs, bool]] = {}
        self._held: dict[str, Lane] = {}
        self._refused = 0
        self._may_ask = 0
        self._next_moment: UnixMs = 0
        self._alarms: list[tuple[UnixMs, str]] = []
        self.in_flight = 0

    # -- what there is to do -------------------------------------------------------------------------------------------

    def hint(self, endpoint_ids: Iterable[str], now: UnixMs, *, urgent: bool = False) -> None:
        """These endpoints are owed something new; `urgent`: by hand, so that no breaker may hold it back."""
        for endpoint_id in endpoint_ids:
            self._heard.add(endpoint_id)
            lane = self._lanes.get(endpoint_id)
            if lane is None:
                self._unknown[endpoint_id] = urgent or self._unknown.get(endpoint_id, False)
            else:
                lane.due_at = now
                lane.urgent |= urgent
                self._note(lane, now, urgent=urgent)
                self._schedule(lane, now)

    def unknown(self) -> list[str]:
        """Endpoints that are owed something and that nothing is known of: they have to be introduced first."""
        return list(itertools.islice(self._unknown, _LANES_A_TURN))

    def introduce(self, endpoint_ids: Iterable[str], targets: Mapping[str, Target], now: UnixMs) -> None:
        """Where these go. Those without a target are not sent to now."""
        for endpoint_id in endpoint_ids:
            urgent = self._unknown.pop(endpoint_id, False)
            if endpoint_id in targets:
                lane = self._known(targets[endpoint_id], now)
                lane.due_at, lane.urgent = now, urgent
                self._schedule(lane, now)

    def surveying(self) -> None:
        """A survey begins: what is heard from now on it may not know yet."""
        self._heard.clear()

    def survey(self, survey: BacklogPage, now: UnixMs) -> None:
        """Believe the database, one page after the other: what is owed, to whom, and how many workers share the limits."""
        self._divide(max(1, survey.workers), now)
        self.hint(survey.urgent, now, urgent=True)
        for state in survey.endpoints:
            lane = self._known(state.target, now)
            self._believe(lane, state, now)
            self._schedule(lane, now)
        if survey.until is None:
            self._forget_the_idle()

    def requests(self, now: UnixMs) -> list[ClaimRequest]:
        """What to claim now: accounts take turns, and so do the lanes of each."""
        self._news.clear()  # what is heard from now on the claim may not know yet
        self._ring(now)
        plan = _Plan(self._bounds.in_flight - self.in_flight)
        requests: list[ClaimRequest] = []
        refused: list[Lane] = []
        while plan.free > 0 and len(requests) < _LANES_A_TURN:
            asked = self._round(now, plan, refused, _LANES_A_TURN - len(requests))
            if not asked:
                break
            requests += asked
        for lane in refused:
            self._hold(lane, now)
        self._refused = len(refused)
        return requests

    def next_at(self, now: UnixMs) -> UnixMs | None:
        """When something is to be done next, as far as is known; None: when something happens."""
        if self._unknown:
            return now
        if any(account.ready for account in self._accounts.values()):
            return now if self.in_flight < self._bounds.in_flight else None
        times = [self._alarms[0][0]] if self._alarms else []
        if self._held and (self._may_ask or not self.in_flight):
            times.append(self._next_moment)
        return min(times, default=None)

    # -- what is being done --------------------------------------------------------------------------------------------

    def claimed(self, requests: Sequence[ClaimRequest], claims: ClaimResult, now: UnixMs) -> None:
        """Take note of what a claim brought: a lane that got all it asked for has more.

        Of what was promised to a lane it may not have needed all: then some that were refused for it may ask again.
        """
        counts = Counter(each.target.endpoint_id for each in claims.claimed)
        for request in requests:
            target = claims.targets.get(request.endpoint_id)
            if target is None:
                self._gone(request.endpoint_id, now)
                continue
            lane = self._known(target, now)
            count = counts[request.endpoint_id]
            full = count >= request.limit
            due_at, urgent = self._news.get(request.endpoint_id, (None, False))
            lane.due_at = now if full or lane.urgent else due_at
            lane.urgent = (lane.urgent and full) or urgent
            self._start(lane, count, now)
            self._schedule(lane, now)
        self._may_ask += min(sum(each.limit for each in requests) - len(claims.claimed), self._refused)

    def place(self, claimed: Claimed) -> "Place":
        """The place that a claimed delivery has in its lane, to be freed once."""
        return Place(self, claimed.target.endpoint_id)

    def freed(self, endpoint_id: str, now: UnixMs, *, succeeded: bool) -> None:
        """One delivery is no longer under way: there is room again."""
        lane = self._lanes[endpoint_id]
        self._end(lane, now, succeeded=succeeded)
        self._may_ask += 2  # one of them may be refused again
        self._schedule(lane, now)
        self._admit(lane.destination, now)

    def spent(self, endpoint_id: str) -> None:
        """A delivery takes one request more than it was claimed for: the next ones of the endpoint wait for it."""
        lane = self._lanes[endpoint_id]
        if lane.bucket is not None:
            lane.bucket.take(1)

    def settled(self, settlement: Settlement, now: UnixMs) -> None:
        """What became of a delivery is durable: it may be due again, or the next of its customer's may go."""
        lane = self._lanes[settlement.claimed.target.endpoint_id]
        self._heard.add(lane.endpoint_id)
        due_at = settlement.due_at if settlement.status is DeliveryStatus.PENDING else None
        if settlement.claimed.customer_id is not None:
            due_at = now
        if due_at is not None:
            lane.due_at = due_at if lane.due_at is None else min(lane.due_at, due_at)
            self._note(lane, due_at)
        self._schedule(lane, now)
        self._admit(lane.destination, now)

    def left(self, endpoint_id: str) -> None:
        """One delivery is out of this process's hands."""
        self._lanes[endpoint_id].held -= 1

    def learned(self, health: Mapping[str, Health], now: UnixMs) -> None:
        """What the last attempts have shown of these endpoints."""
        for endpoint_id, each in health.items():
            lane = self._lanes.get(endpoint_id)
            if lane is not None:
                lane.refresh(replace(lane.target, health=each), now, share=self._share)
                self._schedule(lane, now)

    # -- one lane ------------------------------------------------------------------------------------------------------

    def _known(self, target: Target, now: UnixMs) -> Lane:
        lane = self._lanes.get(target.endpoint_id)
        if lane is None:
            lane = Lane(target, self._destination(target.host), self._bounds.lane_width)
            lane.destination.lanes += 1
            self._lanes[target.endpoint_id] = lane
        elif lane.target.host != target.host:
            self._move(lane, target.host, now)
        lane.width = max(1, self._bounds.lane_width // self._share)
        lane.destination.width = max(1, self._bounds.host_width // self._share)
        lane.refresh(target, now, share=self._share)
        return lane

    def _divide(self, workers: int, now: UnixMs) -> None:
        """With more workers there is less room for each, and with fewer there is more."""
        if workers != self._share:
            self._share = workers
            for lane in self._lanes.values():
                self._schedule(self._known(lane.target, now), now)
            for destination in self._destinations.values():
                self._admit(destination, now)

    def _believe(self, lane: Lane, state: EndpointBacklog, now: UnixMs) -> None:
        """Take over what a survey has read, beside what was heard after it had begun to."""
        hinted = self._unknown.pop(lane.endpoint_id, None)  # nobody is asked for twice in one claim
        if hinted is not None:
            lane.due_at, lane.urgent = now, hinted
        if lane.endpoint_id in self._heard:
            lane.due_at = state.due_at if lane.due_at is None else min(lane.due_at, state.due_at)
        else:
            lane.due_at, lane.urgent = state.due_at, False

    def _destination(self, host: str) -> Destination:
        return self._destinations.setdefault(host, Destination(self._bounds.host_width))

    def _move(self, lane: Lane, host: str, now: UnixMs) -> None:
        """Its owner has given it an address elsewhere."""
        self._depart(lane)
        lane.destination.in_flight -= lane.in_flight
        self._admit(lane.destination, now)
        lane.destination = self._destination(host)
        lane.destination.lanes += 1
        lane.destination.in_flight += lane.in_flight

    def _depart(self, lane: Lane) -> None:
        lane.destination.waiting.pop(lane.endpoint_id, None)
        lane.destination.lanes -= 1
        if not lane.destination.lanes:
            del self._destinations[lane.target.host]

    def _schedule(self, lane: Lane, now: UnixMs, *, rung: bool = False) -> None:
        """Put the lane where it belongs: to be asked now, at a time, or when something happens to it.

        One whose last attempt failed is in no hurry, and waits for the next of the moments (`rung`) at which all lanes
        like it are asked together; so do those that have found no place. A claim for each of them, whenever it may,
        would keep everybody else's waiting.
        """
        ready = self._account(lane).ready
        self._held.pop(lane.endpoint_id, None)
        at = lane.ready_at(now)
        if at is not None and not (lane.proven or lane.urgent or rung):
            at = _moment(max(at, now + 1))
        if at is None or at > now:
            ready.pop(lane.endpoint_id, None)
        else:
            ready.setdefault(lane.endpoint_id, lane)
        if at is not None and at > now and lane.alarm_at != at:
            lane.alarm_at = at
            heapq.heappush(self._alarms, (at, lane.endpoint_id))
            self._forget_alarms()

    def _forget_alarms(self) -> None:
        """Those that were put off, or whose lane is gone, would stay until their time: too many of them are cleared."""
        if len(self._alarms) > _SPARE_ALARMS + _ALARMS_A_LANE * len(self._lanes):
            lanes = self._lanes.values()
            self._alarms = [(lane.alarm_at, lane.endpoint_id) for lane in lanes if lane.alarm_at is not None]
            heapq.heapify(self._alarms)

    def _ring(self, now: UnixMs) -> None:
        """Look again at the lanes whose time has come, and at as many of those that wait for places as may have one now.

        When nothing is under way any more, that is all of them: nobody would let them go on.
        """
        while self._alarms and self._alarms[0][0] <= now:
            at, endpoint_id = heapq.heappop(self._alarms)
            lane = self._lanes.get(endpoint_id)
            if lane is not None and lane.alarm_at == at:
                lane.alarm_at = None
                self._schedule(lane, now, rung=True)
        if now >= self._next_moment:
            may_ask, self._may_ask = self._may_ask if self.in_flight else None, 0
            for lane in list(itertools.islice(self._held.values(), may_ask)):
                self._schedule(lane, now, rung=True)
            self._next_moment = _moment(now + 1)

    def _round(self, now: UnixMs, plan: _Plan, refused: list[Lane], most: int) -> list[ClaimRequest]:
        """One lane of each account that has one ready; whoever was asked goes to the end of its queue."""
        asked: list[ClaimRequest] = []
        for account_id in [id_ for id_, account in self._accounts.items() if account.ready]:
            account = self._accounts.pop(account_id)
            self._accounts[account_id] = account
            request = self._ask_one(account, now, plan, refused)
            if request is not None:
                asked.append(request)
            if plan.free <= 0 or len(asked) == most:
                break
        return asked

    def _ask_one(self, account: _Account, now: UnixMs, plan: _Plan, refused: list[Lane]) -> ClaimRequest | None:
        """The first of the account's lanes that has room."""
        while account.ready:
            endpoint_id, lane = next(iter(account.ready.items()))
            del account.ready[endpoint_id]
            request = lane.ask(now, self._allowance(account, lane, plan))
            if request is not None:
                plan.note(lane, request.limit)
                return request
            refused.append(lane)
        return None

    def _allowance(self, account: _Account, lane: Lane, plan: _Plan) -> int:
        """How much the lane may ask for, beside what is under way and what this turn has promised."""
        all_used = self._bounds.in_flight - plan.free
        promised = plan.accounts[lane.target.account_id]
        fair = (self._bounds.in_flight - self.in_flight + account.in_flight) // 2
        host = lane.destination.width - lane.destination.in_flight - plan.hosts[lane.target.host]
        room = min(_room(lane, self._bounds.in_flight, all_used), _room(lane, fair, account.in_flight + promised))
        return min(room, host, _CLAIMS_A_LANE)

    def _hold(self, lane: Lane, now: UnixMs) -> None:
        """It was refused: let it wait for what it lacks, which is its host, its time, or places that others have."""
        at = lane.ready_at(now)
        if lane.destination.is_full:
            lane.destination.waiting[lane.endpoint_id] = lane
        elif at is not None and at <= now:
            self._held[lane.endpoint_id] = lane
        else:
            self._schedule(lane, now)

    def _admit(self, destination: Destination, now: UnixMs) -> None:
        """There is room at a host again: whoever waits for it may ask."""
        if destination.waiting and not destination.is_full:
            waiting, destination.waiting = destination.waiting, {}
            for lane in waiting.values():
                self._schedule(lane, now)

    def _start(self, lane: Lane, count: int, now: UnixMs) -> None:
        self.in_flight += count
        self._account(lane).in_flight += count
        lane.held += count
        lane.started(count, now)

    def _end(self, lane: Lane, now: UnixMs, *, succeeded: bool) -> None:
        self.in_flight -= 1
        self._account(lane).in_flight -= 1
        lane.finished(now, succeeded=succeeded)

    def _note(self, lane: Lane, due_at: UnixMs, *, urgent: bool = False) -> None:
        """A claim that is under way may have looked too early to know of this."""
        earlier, hurried = self._news.get(lane.endpoint_id, (due_at, False))
        self._news[lane.endpoint_id] = min(earlier, due_at), urgent or hurried

    def _gone(self, endpoint_id: str, now: UnixMs) -> None:
        """It was not enabled: nothing is due until somebody says otherwise, or has done so since it was asked for."""
        lane = self._lanes.get(endpoint_id)
        if lane is not None:
            lane.due_at, _ = self._news.get(endpoint_id, (None, False))
            self._schedule(lane, now)

    def _forget_the_idle(self) -> None:
        """When there are too many. What is owed something is found again by the next survey, or by a hint."""
        if len(self._lanes) > self._bounds.lanes:
            for lane in [each for each in self._lanes.values() if each.due_at is None and not each.held]:
                self._forget(lane)

    def _forget(self, lane: Lane) -> None:
        del self._lanes[lane.endpoint_id]
        self._depart(lane)
        self._held.pop(lane.endpoint_id, None)
        account = self._account(lane)
        account.ready.pop(lane.endpoint_id, None)
        if not account.ready and not account.in_flight:
            self._accounts.pop(lane.target.account_id, None)

    def _account(self, lane: Lane) -> _Account:
        return self._accounts.setdefault(lane.target.account_id, _Account())

    def __len__(self) -> int:
        return len(self._lanes)

    def __repr__(self) -> str:
        busy: Collection[Lane] = [lane for lane in self._lanes.values() if lane.in_flight or lane.due_at is not None]
        return f"<Lanes: {self.in_flight}/{self._bounds.in_flight} | {' '.join(map(repr, busy))}>"


def _moment(at: UnixMs) -> UnixMs:
    """The first one that is not before `at`."""
    return -(-at // MOMENT_MS) * MOMENT_MS


def _room(lane: Lane, places: int, taken: int) -> int:
    """How many of `places` a lane may take. The fuller they are, the better it has to be.

    Lanes that nothing speaks against share three quarters; what is left is for those of them that have nothing under
    way, since they do not wait for an answer that may never come. These get two places: asked for one, a lane that has
    no more would have to be asked again. A lane whose last attempt failed gets half as far.
    """
    reach = places if lane.proven else places // 2
    shared = reach * 3 // 4
    if shared > taken:
        return shared - taken
    return 0 if lane.in_flight else min(reach - taken, 2)


@dataclass(slots=True)
class Place:
    """The place of one delivery in its lane: freed when the endpoint has answered, left when that is durable."""

    lanes: Lanes
    endpoint_id: str
    taken: bool = True

    def free(self, now: UnixMs, *, succeeded: bool) -> None:
        """Let the next one start. Doing it again makes no difference."""
        if self.taken:
            self.taken = False
            self.lanes.freed(self.endpoint_id, now, succeeded=succeeded)

    def leave(self, now: UnixMs) -> None:
        """It is over, however it ended."""
        self.free(now, succeeded=False)
        self.lanes.left(self.endpoint_id)
