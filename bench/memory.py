"""The memory of a server under a steady load."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.load import EVENTS_PER_PURCHASE, buy, customers, steadily, subscribe
from bench.measurement import Finding, Goal, Scale
from bench.server import Server
from bench.stage import Stage

_BATCH = 10
_SAMPLE_S = 0.5
_HOUR_S = 3_600
_MOST_GROWTH = 0.05


@dataclass(frozen=True)
class Memory:
    """Samples of the resident memory: (seconds since the start, MB)."""

    samples: Sequence[tuple[float, float]]

    def mean(self, begin: float, end: float) -> float:
        """The mean in MB between two fractions of the time."""
        part = self.samples[int(len(self.samples) * begin) : max(1, int(len(self.samples) * end))]
        return sum(mb for _, mb in part) / len(part)

    @property
    def per_minute(self) -> float:
        """The slope in MB per minute of the line through the second half, when the caches are full."""
        half = self.samples[len(self.samples) // 2 :]
        mean_s, mean_mb = sum(s for s, _ in half) / len(half), sum(mb for _, mb in half) / len(half)
        slope = sum((s - mean_s) * (mb - mean_mb) for s, mb in half) / sum((s - mean_s) ** 2 for s, _ in half)
        return slope * 60

    @property
    def is_flat(self) -> bool:
        """Whether the mean of the last quarter exceeds that of the second by at most 5 %."""
        return self.mean(0.75, 1) <= self.mean(0.25, 0.5) * (1 + _MOST_GROWTH)


def memory(stage: Stage, scale: Scale) -> Finding:
    """On the first database: `serve` with everything in one process."""
    store = stage.stores[0]
    usage, sent = _measure(stage, store, scale)
    minutes = scale.memory_s / 60
    measured = (
        f"{usage.per_minute:+.2f} MB/min at the end of {minutes:.1f} min at {sent / scale.memory_s:,.0f} deliveries/s"
    )
    reached = usage.is_flat if scale.memory_s >= _HOUR_S else None
    goal = Goal(f"memory, {store}", "flat over an hour at full rate", measured, reached)
    rows = [
        f"| {part} | {usage.mean(at, at + 0.25):.1f} |" for part, at in zip(_PARTS, (0, 0.25, 0.5, 0.75), strict=True)
    ]
    return Finding([goal], _INTRO + "\n".join(rows) + "\n")


_PARTS = ("first", "second", "third", "last")
_INTRO = """The resident memory of `loyalpro serve` under a steady load of purchases, in batches of ten.

| quarter of the time | mean, MB |
|---|---|
"""


def _measure(stage: Stage, store: str, scale: Scale) -> tuple[Memory, int]:
    server, receiver = stage.serve(stage.database(store)), stage.receiver(remembers=False)
    client = server.client()
    subscribe(client, receiver.url)
    buyers = customers(client, 200)
    stage.report(f"{store}: {scale.memory_s:,.0f} s")
    sampler = MemorySampler(server)
    sampler.start()
    calls = round(scale.memory_per_s / EVENTS_PER_PURCHASE / _BATCH * scale.memory_s)
    steadily(server, calls, scale.memory_s, lambda client, n: buy(client, _some(buyers, n), _BATCH))
    sampler.stop()
    sent = receiver.count()
    server.kill()
    return sampler.memory, sent


def _some(buyers: Sequence[str], turn: int) -> list[str]:
    return [buyers[(turn * _BATCH + n) % len(buyers)] for n in range(_BATCH)]


class MemorySampler(threading.Thread):
    """Samples the memory of a server every half second."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._samples: list[tuple[float, float]] = []
        self._server = server
        self._stopped = threading.Event()

    def run(self) -> None:
        """Sample until stopped."""
        began_s = time.monotonic()
        while not self._stopped.wait(_SAMPLE_S):
            self._samples.append((time.monotonic() - began_s, self._server.memory_mb()))

    @property
    def memory(self) -> Memory:
        """What was sampled so far."""
        return Memory(list(self._samples))

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self.join()
