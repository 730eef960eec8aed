"""The addresses of host names: equal look-ups are joined, each account has a limit, and results are kept for a short time.

`Resolver` does no I/O and has no thread. The sender process drives it: it hands over what the DNS servers answer, and calls
`expire` when `next_in_s` has passed.
"""

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final, Protocol

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.iteration import pull
from loyalpro.kernel.record import record

ANSWER_WITHIN_S: Final = 5.0
PER_ACCOUNT: Final = 256
_SHORTEST_S: Final = 5.0
_LONGEST_S: Final = 60.0
_FAILURE_S: Final = 5.0
_STALE_S: Final = 600.0
_MAX_KEPT: Final = 10_000


class ResolutionStatus(StrEnum):
    """How a look-up ended.

    `no_address`: the DNS servers answered that there is none. `no_answer`: they were asked, and gave no usable answer.
    `no_time`: the time of the caller was up before that was known.
    """

    FOUND = "found"
    NO_ADDRESS = "no_address"
    NO_ANSWER = "no_answer"
    NO_TIME = "no_time"


@record
class Resolution:
    """The end of a look-up. `addresses` is empty unless the status is `found`."""

    status: ResolutionStatus
    addresses: tuple[str, ...] = ()


NO_ADDRESS: Final = Resolution(ResolutionStatus.NO_ADDRESS)
NO_ANSWER: Final = Resolution(ResolutionStatus.NO_ANSWER)
NO_TIME: Final = Resolution(ResolutionStatus.NO_TIME)
LOOPBACK: Final = Resolution(ResolutionStatus.FOUND, ("127.0.0.1", "::1"))

Done = Callable[[Resolution], None]


@record
class Answer:
    """What the DNS servers say about a name. `ttl_s`: for how long they allow it to be kept."""

    name: str
    resolution: Resolution
    ttl_s: float = 0.0


class NameService(Protocol):
    """Asks the DNS servers without blocking."""

    @property
    def fd(self) -> int:
        """A file descriptor that is readable while there are answers to take."""
        ...

    def ask(self, name: str) -> None:
        """Ask for the addresses of a name; `take` has the answer later."""
        ...

    def take(self) -> Sequence[Answer]:
        """Return the answers that have arrived since the last call."""
        ...


def is_loopback_name(name: str) -> bool:
    """Whether a name in lower case means this machine, whatever a DNS server says: RFC 6761, section 6.3."""
    return name == "localhost" or name.endswith(".localhost")


@dataclass(slots=True, eq=False)
class _Waiter:
    """One caller. Its timer outlives it, so `done`, which may hold a whole request, is dropped with its call."""

    done: Done | None

    def end(self, resolution: Resolution) -> None:
        done, self.done = self.done, None
        if done is not None:
            done(resolution)


@dataclass(slots=True, eq=False)
class _LookUp:
    """One name that callers wait for. `account_id`: whose limit it counts against, once it has been asked."""

    name: str
    waiters: list[_Waiter] = field(default_factory=list)
    account_id: str | None = None

    @property
    def is_wanted(self) -> bool:
        return self.account_id is None and any(each.done is not None for each in self.waiters)


@dataclass(slots=True)
class _Kept:
    """A result. It is current until `until_s`; later it only serves when the DNS servers do not answer, until `stale_s`."""

    resolution: Resolution
    until_s: float
    stale_s: float


class Resolver:
    """Looks names up through `ask`. An account has at most `per_account` names under way; its others wait in order."""

    def __init__(
        self,
        ask: Callable[[str], None],
        clock: Clock,
        *,
        per_account: int = PER_ACCOUNT,
        answer_within_s: float = ANSWER_WITHIN_S,
        max_kept: int = _MAX_KEPT,
    ) -> None:
        self._ask_servers = ask
        self._clock = clock
        self._per_account = per_account
        self._answer_within_s = answer_within_s
        self._max_kept = max_kept
        self._kept: dict[str, _Kept] = {}
        self._open: dict[str, _LookUp] = {}
        self._under_way: Counter[str] = Counter()
        self._queued: dict[str, deque[_LookUp]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def look_up(self, name: str, account_id: str, within_s: float, done: Done) -> None:
        """Call `done` with the result once, at once or within `within_s` seconds. `name`: in lower case, not an address."""
        current = self._current(name)
        if current is not None:
            done(current)
            return
        waiter = _Waiter(done)
        look_up = self._open.setdefault(name, _LookUp(name))
        look_up.waiters.append(waiter)
        self._after(within_s, partial(waiter.end, NO_TIME))
        if look_up.account_id is None:
            self._queued.setdefault(account_id, deque()).append(look_up)
            self._ask_next(account_id)

    def answered(self, answer: Answer) -> None:
        """Take what the DNS servers say. An answer that comes after its callers have left is kept for the next."""
        look_up = self._open.get(answer.name)
        is_awaited = look_up is not None and look_up.account_id is not None
        if is_awaited or answer.resolution.addresses:
            self._keep(answer)
        if look_up is not None and is_awaited:
            self._end(look_up, self._kept[answer.name].resolution)

    def expire(self) -> None:
        """End the look-ups whose time is up."""
        now_s = self._clock.monotonic_s()
        while self._timers and self._timers[0][0] <= now_s:
            heapq.heappop(self._timers)[2]()

    def next_in_s(self) -> float | None:
        """Seconds until `expire` has something to do; None when nothing is under way."""
        return max(0.0, self._timers[0][0] - self._clock.monotonic_s()) if self._timers else None

    def _current(self, name: str) -> Resolution | None:
        if is_loopback_name(name):
            return LOOPBACK
        kept = self._kept.get(name)
        return kept.resolution if kept is not None and self._clock.monotonic_s() < kept.until_s else None

    def _ask_next(self, account_id: str) -> None:
        """Ask for the names that wait for this account, as far as its limit allows."""
        queue = self._queued.get(account_id)
        while queue and self._under_way[account_id] < self._per_account:
            look_up = queue.popleft()
            if look_up.is_wanted:
                self._ask(look_up, account_id)
            elif look_up.account_id is None and self._open.get(look_up.name) is look_up:
                del self._open[look_up.name]  # all of its callers have left
        if not queue:
            self._queued.pop(account_id, None)

    def _ask(self, look_up: _LookUp, account_id: str) -> None:
        look_up.account_id = account_id
        self._under_way[account_id] += 1
        self._after(self._answer_within_s, partial(self._give_up, look_up))
        self._ask_servers(look_up.name)

    def _give_up(self, look_up: _LookUp) -> None:
        if self._open.get(look_up.name) is look_up:
            self.answered(Answer(look_up.name, NO_ANSWER))

    def _end(self, look_up: _LookUp, resolution: Resolution) -> None:
        del self._open[look_up.name]
        account_id = look_up.account_id or ""
        self._under_way[account_id] -= 1
        if not self._under_way[account_id]:
            del self._under_way[account_id]
        self._ask_next(account_id)
        for waiter in look_up.waiters:
            waiter.end(resolution)

    def _keep(self, answer: Answer) -> None:
        """Keep a result. While the DNS servers do not answer, the last addresses stay in use for some minutes (RFC 8767)."""
        now_s = self._clock.monotonic_s()
        before = self._kept.pop(answer.name, None)
        if answer.resolution.addresses:
            until_s = now_s + min(max(answer.ttl_s, _SHORTEST_S), _LONGEST_S)
            kept = _Kept(answer.resolution, until_s, until_s + _STALE_S)
        elif before is not None and answer.resolution == NO_ANSWER and now_s < before.stale_s:
            kept = _Kept(before.resolution, now_s + _FAILURE_S, before.stale_s)
        else:
            kept = _Kept(answer.resolution, now_s + _FAILURE_S, now_s)
        self._kept[answer.name] = kept
        if len(self._kept) > self._max_kept:
            del self._kept[pull(iter(self._kept))]

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self._clock.monotonic_s() + seconds, pull(self._numbers), act))
