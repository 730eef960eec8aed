"""What a server holds in memory while the work goes on and on."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.load import EVENTS_PER_PURCHASE, buy, customers, steadily, subscribe
from bench.measurement import Finding, Goal, Scale
from bench.server import Server
from bench.stage import Stage

_BATCH = 10
_LOOK_S = 0.5
_HOUR_S = 3_600
_MOST_GROWTH = 0.05


@dataclass(frozen=True)
class Memory:
    """Megabytes over time: (seconds, MB)."""

    seen: Sequence[tuple[float, float]]

    def mean(self, begin: float, end: float) -> float:
        """Between two fractions of the time."""
        part = self.seen[int(len(self.seen) * begin) : max(1, int(len(self.seen) * end))]
        return sum(mb for _, mb in part) / len(part)

    @property
    def per_minute(self) -> float:
        """The slope of the straight line through the second half, when everything has been used once."""
        half = self.seen[len(self.seen) // 2 :]
        mean_s, mean_mb = sum(s for s, _ in half) / len(half), sum(mb for _, mb in half) / len(half)
        slope = sum((s - mean_s) * (mb - mean_mb) for s, mb in half) / sum((s - mean_s) ** 2 for s, _ in half)
        return slope * 60

    @property
    def is_flat(self) -> bool:
        """Whether the last quarter holds hardly more than the second."""
        return self.mean(0.75, 1) <= self.mean(0.25, 0.5) * (1 + _MOST_GROWTH)


def memory(stage: Stage, scale: Scale) -> Finding:
    """On the first store: `serve` with everything in one process."""
    store = stage.stores[0]
    seen, sent = _measure(stage, store, scale)
    minutes = scale.memory_s / 60
    measured = (
        f"{seen.per_minute:+.2f} MB/min at the end of {minutes:.1f} min at {sent / scale.memory_s:,.0f} deliveries/s"
    )
    reached = seen.is_flat if scale.memory_s >= _HOUR_S else None
    goal = Goal(f"memory, {store}", "flat over an hour at full rate", measured, reached)
    rows = [
        f"| {part} | {seen.mean(at, at + 0.25):.1f} |" for part, at in zip(_PARTS, (0, 0.25, 0.5, 0.75), strict=True)
    ]
    return Finding([goal], _INTRO + "\n".join(rows) + "\n")


_PARTS = ("first", "second", "third", "last")
_INTRO = """The resident memory of `loyalpro serve` under a steady load of purchases, in batches of ten. An hour takes
`make bench-memory`.

| quarter of the time | mean, MB |
|---|---|
"""


def _measure(stage: Stage, store: str, scale: Scale) -> tuple[Memory, int]:
    server, receiver = stage.serve(stage.database(store)), stage.receiver(remembers=False)
    client = server.client()
    subscribe(client, receiver.url)
    buyers = customers(client, 200)
    stage.say(f"{store}: {scale.memory_s:,.0f} s")
    watch = _Watch(server)
    watch.start()
    calls = round(scale.memory_per_s / EVENTS_PER_PURCHASE / _BATCH * scale.memory_s)
    steadily(server, calls, scale.memory_s, lambda mine, n: buy(mine, _some(buyers, n), _BATCH))
    watch.stop()
    sent = receiver.count()
    server.kill()
    return Memory(watch.seen), sent


def _some(buyers: Sequence[str], turn: int) -> list[str]:
    return [buyers[(turn * _BATCH + n) % len(buyers)] for n in range(_BATCH)]


class _Watch(threading.Thread):
    """Looks again and again."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, float]] = []
        self._server = server
        self._stopped = threading.Event()

    def run(self) -> None:
        """Until stopped."""
        began_s = time.monotonic()
        while not self._stopped.wait(_LOOK_S):
            self.seen.append((time.monotonic() - began_s, self._server.memory_mb()))

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self.join()
