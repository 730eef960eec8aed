"""How long the deliveries of a killed worker wait until another process sends them, and whether any is lost."""

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
    """When one worker was killed, and the number of the attempt under way of each event."""

    at_ms: float
    held: dict[str, int]
    waits_s: list[float] = field(default_factory=list)
    never: int = 0

    def match(self, hits: dict[str, list[Hit]]) -> None:
        """Find the first request of another process for each event: its attempt has a higher number."""
        for event_id, attempt in self.held.items():
            later = [hit.at_ms for hit in hits[event_id] if hit.attempt > attempt]
            if later:
                self.waits_s.append((min(later) - self.at_ms) / 1_000)
            else:
                self.never += 1


@dataclass(frozen=True)
class Totals:
    """The events that were committed, those that arrived, and all requests."""

    events: int
    arrived: int
    requests: int


def kills(stage: Stage, scale: Scale) -> Finding:
    """On PostgreSQL only: a server and two workers, one of which is killed every few seconds."""
    if "postgres" not in stage.stores:
        return Finding([], "Needs PostgreSQL: on SQLite one process does everything.\n")
    died, totals = _measure(stage, scale)
    held = sum(len(each.held) for each in died)
    waits_s = [wait for each in died for wait in each.waits_s]
    longest_s = max(waits_s, default=0.0)
    lost, never = totals.events - totals.arrived, sum(each.never for each in died)
    again = totals.requests - totals.arrived
    goals = [
        Goal(
            "recovery, killed worker",
            "its deliveries under way elsewhere within 15 s",
            f"at most {longest_s:.1f} s ({held} deliveries, {len(died)} kills)",
            bool(waits_s) and not never and longest_s <= 15,
        ),
        Goal(
            "nothing lost", "every event delivered", f"{lost} of {totals.events:,} lost, {len(died)} kills", lost == 0
        ),
        Goal(
            "duplicates", "only after a crash", f"{again} requests more than events; {held} interrupted", again <= held
        ),
    ]
    rows = [f"| {n} | {len(each.held)} | {_span(each.waits_s)} | {each.never} |" for n, each in enumerate(died, 1)]
    return Finding(goals, _intro(scale) + "\n".join(rows) + "\n")


def _measure(stage: Stage, scale: Scale) -> tuple[list[Kill], Totals]:
    url, receiver = stage.database("postgres"), stage.receiver(answer_after_s=_ANSWER_AFTER_S)
    server = stage.serve(url)
    endpoint_id = subscribe(server.client(), receiver.url)
    workers = [stage.work(url), stage.work(url)]
    seconds = _FIRST_AFTER_S + (scale.kills - 1) * scale.kill_every_s + 2
    client = _Client(server, seconds)
    client.start()
    died = []
    for number in range(1, scale.kills + 1):
        client.wait_until(_FIRST_AFTER_S + (number - 1) * scale.kill_every_s)
        stage.report(f"kill {number} of {scale.kills}")
        died.append(_kill(url, workers.pop(0)))
        workers.append(stage.work(url))
    stage.report("waiting for the rest")
    client.join()
    return died, _totals(server, receiver, endpoint_id, client.events, died)


def _kill(url: str, worker: Worker) -> Kill:
    """Suspend the worker first, so its leases can be read; the time of the suspension counts as that of the kill."""
    at_ms = time.time() * 1_000
    worker.suspend()
    time.sleep(0.05)  # the database finishes the statements that it has received
    held = {str(event_id): int(attempt) for event_id, attempt in query(url, _HELD, worker.pid)}
    worker.kill()
    return Kill(at_ms, held)


def _totals(server: Server, receiver: Receiver, endpoint_id: str, events: int, died: list[Kill]) -> Totals:
    wait_until_settled(server.client(), endpoint_id, receiver, events)
    hits: dict[str, list[Hit]] = defaultdict(list)
    for hit in receiver.hits():
        hits[hit.event_id].append(hit)
    for each in died:
        each.match(hits)
    return Totals(events, len(hits), sum(map(len, hits.values())))


class _Client(threading.Thread):
    """Records purchases at a steady rate, in the background."""

    def __init__(self, server: Server, seconds: float) -> None:
        super().__init__(daemon=True)
        self.events = 0
        self._server = server
        self._seconds = seconds
        self._buyers = customers(server.client(), 50)
        self._began_s = time.monotonic()

    def run(self) -> None:
        """Record the purchases; counts the events of those that the server acknowledged."""
        self.events = steady_purchases(self._server, self._buyers, _PER_S, self._seconds)

    def wait_until(self, second: float) -> None:
        """Wait until this second of the run."""
        time.sleep(max(0.0, self._began_s + second - time.monotonic()))


def _span(waits_s: list[float]) -> str:
    return f"{min(waits_s):.1f} to {max(waits_s):.1f}" if waits_s else ""


def _intro(scale: Scale) -> str:
    return f"""A server and two workers share {_PER_S} events/s to a receiver that answers after {_ANSWER_AFTER_S} s. Every {scale.kill_every_s:g} s one worker
is killed with SIGKILL and replaced. The wait runs from the kill to the first request for the delivery with a higher attempt number.
`make chaos` injects more faults and accounts for every webhook: [CHAOS.md](CHAOS.md).

| kill | under way at the killed worker | first request of another process after, s | never sent again |
|---|---|---|---|
"""
