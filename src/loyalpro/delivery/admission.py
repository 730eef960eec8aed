"""Admission: which endpoint queue may be asked for deliveries now, in fair turns, and for how many.

Two bounds on the deliveries in flight keep those of all accounts moving. An account may use half of the slots that the
others leave free, so that there are always some for one more account. And the fewer slots are free, the healthier an endpoint
must be to get one (`_capacity`), so that thousands of endpoints that hang leave slots for those that answer.
"""

import itertools
from collections import Counter
from dataclasses import dataclass, field

from loyalpro.delivery.claims import ClaimRequest
from loyalpro.delivery.endpoint_queue import EndpointQueue
from loyalpro.delivery.timers import coalesced
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.iteration import pull

QUEUES_PER_TURN = 64
"""A turn asks at most so many queues."""
_MAX_PER_REQUEST = 64


@dataclass(slots=True)
class Account:
    """The queues of one account that may be asked now, in the order in which they became ready, and what is in flight."""

    in_flight: int = 0
    ready: dict[str, EndpointQueue] = field(default_factory=dict)


@dataclass(slots=True)
class _Turn:
    """What one turn has asked for already, although nothing of it is in flight yet, and which queues it has refused."""

    free: int
    requests: list[ClaimRequest] = field(default_factory=list)
    refused: list[EndpointQueue] = field(default_factory=list)
    accounts: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)

    @property
    def is_over(self) -> bool:
        return self.free <= 0 or len(self.requests) >= QUEUES_PER_TURN

    def add(self, queue: EndpointQueue, request: ClaimRequest) -> None:
        self.requests.append(request)
        self.free -= request.limit
        self.accounts[queue.target.account_id] += request.limit
        self.hosts[queue.target.host] += request.limit


class Admission:
    """The accounts with their ready queues, and the queues that wait for a free slot.

    `in_flight`: deliveries of all accounts, at most `max_in_flight`. A queue that a turn refuses for want of a slot waits;
    after slots have become free, as many waiting queues are asked again at the next multiple of `COALESCE_MS`.
    """

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._accounts: dict[str, Account] = {}
        self._waiting: dict[str, EndpointQueue] = {}
        self._last_refused = 0
        self._may_retry = 0
        self._retry_at: UnixMs = 0
        self.in_flight = 0

    # -- turns -------------------------------------------------------------------------------------------------------

    def take_turn(self, now: UnixMs) -> tuple[list[ClaimRequest], list[EndpointQueue]]:
        """Return what to claim now, and the queues that were ready and refused. Accounts take turns, and their queues too."""
        turn = _Turn(self._max_in_flight - self.in_flight)
        while not turn.is_over and self._round(now, turn):
            pass
        self._last_refused = len(turn.refused)
        return turn.requests, turn.refused

    def _round(self, now: UnixMs, turn: _Turn) -> bool:
        """Ask one queue of each account that has one ready; an account that was asked goes to the end of the order."""
        before = len(turn.requests)
        for account_id in [id_ for id_, account in self._accounts.items() if account.ready]:
            account = self._accounts.pop(account_id)
            self._accounts[account_id] = account
            self._ask_account(account, now, turn)
            if turn.is_over:
                break
        return len(turn.requests) > before

    def _ask_account(self, account: Account, now: UnixMs, turn: _Turn) -> None:
        """Ask the ready queues of the account in order, until one has something to claim."""
        while account.ready:
            endpoint_id, queue = pull(iter(account.ready.items()))
            del account.ready[endpoint_id]
            request = queue.request(now, self._limit(account, queue, turn))
            if request is not None:
                turn.add(queue, request)
                return
            turn.refused.append(queue)

    def _limit(self, account: Account, queue: EndpointQueue, turn: _Turn) -> int:
        """Return how many deliveries the queue may claim, beside those in flight and those that the turn has asked for."""
        all_used = self._max_in_flight - turn.free
        account_used = account.in_flight + turn.accounts[queue.target.account_id]
        fair_share = (self._max_in_flight - self.in_flight + account.in_flight) // 2
        host_free = queue.destination.free - turn.hosts[queue.target.host]
        capacity = min(
            _capacity(queue, self._max_in_flight, all_used),
            _capacity(queue, fair_share, account_used),
        )
        return min(capacity, host_free, _MAX_PER_REQUEST)

    # -- ready and waiting queues ------------------------------------------------------------------------------------

    @property
    def has_ready(self) -> bool:
        """Whether a queue is ready to be asked."""
        return any(account.ready for account in self._accounts.values())

    @property
    def has_free_slot(self) -> bool:
        """Whether one more delivery may be in flight."""
        return self.in_flight < self._max_in_flight

    @property
    def retry_at(self) -> UnixMs | None:
        """When waiting queues are asked again; None when none waits, or all of them wait for a slot to become free."""
        return self._retry_at if self._waiting and (self._may_retry or not self.in_flight) else None

    def add_ready(self, queue: EndpointQueue) -> None:
        """Let the next turn ask the queue."""
        self._waiting.pop(queue.endpoint_id, None)
        self.account(queue).ready.setdefault(queue.endpoint_id, queue)

    def remove(self, queue: EndpointQueue) -> None:
        """Let no turn ask the queue."""
        self._waiting.pop(queue.endpoint_id, None)
        self.account(queue).ready.pop(queue.endpoint_id, None)

    def wait_for_slot(self, queue: EndpointQueue) -> None:
        """Let the queue wait for a free slot."""
        self._waiting[queue.endpoint_id] = queue

    def retries(self, now: UnixMs) -> list[EndpointQueue]:
        """Return the waiting queues to ask again now: as many as may get a slot, or all when nothing is in flight.

        With nothing in flight, no end of a delivery would ever let a waiting queue be asked again.
        """
        if now < self._retry_at:
            return []
        count, self._may_retry = self._may_retry if self.in_flight else None, 0
        self._retry_at = coalesced(now + 1)
        return list(itertools.islice(self._waiting.values(), count))

    # -- deliveries in flight ----------------------------------------------------------------------------------------

    def started(self, queue: EndpointQueue, count: int) -> None:
        """Count `count` more deliveries in flight."""
        self.in_flight += count
        self.account(queue).in_flight += count

    def finished(self, queue: EndpointQueue) -> None:
        """Count one delivery less in flight."""
        self.in_flight -= 1
        self.account(queue).in_flight -= 1
        self._may_retry += 2  # one of the two may be refused again

    def unused(self, count: int) -> None:
        """A claim leased `count` fewer deliveries than it asked for: queues that were refused for them may be asked again."""
        self._may_retry += min(count, self._last_refused)

    # -- accounts ----------------------------------------------------------------------------------------------------

    def account(self, queue: EndpointQueue) -> Account:
        """Return the account of the queue."""
        account = self._accounts.get(queue.target.account_id)
        if account is None:
            account = self._accounts[queue.target.account_id] = Account()
        return account

    def forget(self, queue: EndpointQueue) -> None:
        """Forget the queue, and its account when it has nothing ready and nothing in flight."""
        self.remove(queue)
        account = self.account(queue)
        if not account.ready and not account.in_flight:
            self._accounts.pop(queue.target.account_id, None)


def _capacity(queue: EndpointQueue, slots: int, used: int) -> int:
    """Return how many more of `slots` a queue may take when `used` of them are taken.

    Healthy endpoints share three quarters of the slots. The last quarter is for healthy endpoints that have nothing in
    flight, because they do not wait for an answer that may never come. Such an endpoint gets two slots: with one, a queue
    that has only one delivery would fill its request, and would have to be asked again. An endpoint whose last attempt
    failed may use only half of the slots, by the same rule.
    """
    reach = slots if queue.is_healthy else slots // 2
    shared = reach * 3 // 4
    if shared > used:
        return shared - used
    return 0 if queue.in_flight else min(reach - used, 2)
