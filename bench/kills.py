"""What becomes of deliveries whose process is killed while they are under way; and that nothing is lost by it."""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

from bench.load import customers, steady_purchases, subscribe, wait_until_settled
from bench.measurement import Finding, Goal, Scale
from bench.receiver import Hit, Receiver
from bench.server import Server, Worker
from bench.stage import Stage
from support.history import query

_PER_S = 100
_ANSWER_AFTER_S = 0.5
_FIRST_AFTER_S = 5.0
_HELD = """
SELECT d.event_id, l.attempt FROM leases l
JOIN workers w ON w.id = l.worker JOIN deliveries d ON d.id = l.delivery_id AND d.status = 'pending' WHERE w.pid = ?
"""


@dataclass
class Kill:
    """When one worker died, and the attempt that it had under way of each event."""

    at_ms: float
    held: dict[str, int]
    waits_s: list[float] = field(default_factory=list)
    never: int = 0

    def see(self, hits: dict[str, list[Hit]]) -> None:
        """Find the first request for each that came from somebody else: it has a later number."""
        for event_id, attempt in self.held.items():
            later = [hit.at_ms for hit in hits[event_id] if hit.attempt > attempt]
            if later:
                self.waits_s.append((min(later) - self.at_ms) / 1_000)
            else:
                self.never += 1


@dataclass(frozen=True)
class Books:
    """What was committed, and what arrived."""

    events: int
    arrived: int
    requests: int


def kills(stage: Stage, scale: Scale) -> Finding:
    """On PostgreSQL: a server and two workers, one of which is killed again and again."""
    if "postgres" not in stage.stores:
        return Finding([], "Needs PostgreSQL: on SQLite one process does everything, and takes up its own work.\n")
    died, books = _measure(stage, scale)
    held = sum(len(each.held) for each in died)
    waits_s = [wait for each in died for wait in each.waits_s]
    longest_s = max(waits_s, default=0.0)
    lost, never = books.events - books.arrived, sum(each.never for each in died)
    again = books.requests - books.arrived
    goals = [
        Goal(
            "recovery, killed worker",
            "its deliveries under way elsewhere within 15 s",
            f"at most {longest_s:.1f} s ({held} deliveries, {len(died)} kills)",
            bool(waits_s) and not never and longest_s <= 15,
        ),
        Goal("nothing lost", "every event delivered", f"{lost} of {books.events:,} lost, {len(died)} kills", lost == 0),
        Goal("duplicates", "only after a crash", f"{again} requests more than events; {held} cut short", again <= held),
    ]
    rows = [f"| {n} | {len(each.held)} | {_span(each.waits_s)} | {each.never} |" for n, each in enumerate(died, 1)]
    return Finding(goals, _intro(scale) + "\n".join(rows) + "\n")


def _measure(stage: Stage, scale: Scale) -> tuple[list[Kill], Books]:
    url, receiver = stage.database("postgres"), stage.receiver(answer_after_s=_ANSWER_AFTER_S)
    server = stage.serve(url)
    endpoint_id = subscribe(server.client(), receiver.url)
    workers = [stage.work(url), stage.work(url)]
    seconds = _FIRST_AFTER_S + (scale.kills - 1) * scale.kill_every_s + 2
    shop = _Shop(server, seconds)
    shop.start()
    died = []
    for number in range(1, scale.kills + 1):
        shop.wait_until(_FIRST_AFTER_S + (number - 1) * scale.kill_every_s)
        stage.say(f"kill {number} of {scale.kills}")
        died.append(_kill(url, workers.pop(0)))
        workers.append(stage.work(url))
    stage.say("waiting for the rest")
    shop.join()
    return died, _closed(server, receiver, endpoint_id, shop.events, died)


def _kill(url: str, worker: Worker) -> Kill:
    """Suspended first, so that it can be seen what it holds; that counts as its end."""
    at_ms = time.time() * 1_000
    worker.suspend()
    time.sleep(0.05)  # the database finishes what it was asked for
    held = {str(event_id): int(attempt) for event_id, attempt in query(url, _HELD, worker.pid)}
    worker.kill()
    return Kill(at_ms, held)


def _closed(server: Server, receiver: Receiver, endpoint_id: str, events: int, died: list[Kill]) -> Books:
    wait_until_settled(server.client(), endpoint_id, receiver, events)
    hits: dict[str, list[Hit]] = defaultdict(list)
    for hit in receiver.hits():
        hits[hit.event_id].append(hit)
    for each in died:
        each.see(hits)
    return Books(events, len(hits), sum(map(len, hits.values())))


class _Shop(threading.Thread):
    """Buys at a steady rate while others do something else."""

    def __init__(self, server: Server, seconds: float) -> None:
        super().__init__(daemon=True)
        self.events = 0
        self._server = server
        self._seconds = seconds
        self._buyers = customers(server.client(), 50)
        self._began_s = time.monotonic()

    def run(self) -> None:
        """Count only what the server has said is done."""
        self.events = steady_purchases(self._server, self._buyers, _PER_S, self._seconds)

    def wait_until(self, second: float) -> None:
        """Of its run."""
        time.sleep(max(0.0, self._began_s + second - time.monotonic()))


def _span(waits_s: list[float]) -> str:
    return f"{min(waits_s):.1f} to {max(waits_s):.1f}" if waits_s else ""


def _intro(scale: Scale) -> str:
    return f"""A server and two workers share {_PER_S} events/s to a receiver that answers after {_ANSWER_AFTER_S} s. Every {scale.kill_every_s:g} s one worker
is killed with SIGKILL and replaced. The wait runs from the kill to the first request for the delivery with a later number.
`make chaos` breaks more than that, and accounts for every webhook: CHAOS.md.

| kill | under way at the killed worker | first request from elsewhere after, s | never sent again |
|---|---|---|---|
"""
