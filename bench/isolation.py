"""How much some endpoints delay the others: half of all hang, or 200 have host names whose DNS server is silent."""

import statistics
import threading

from bench.delays import Delays
from bench.load import at_random_times, subscribe, wait_for
from bench.measurement import Finding, Goal, Scale
from bench.receiver import Receiver
from bench.server import Server
from bench.silent_names import SILENT, delays_beside_silent_names
from bench.stage import Stage

_PER_S = 100
_TYPES = ["customer.deleted"]


def isolation(stage: Stage, scale: Scale) -> Finding:
    """With and without endpoints that hang, in one run of one server, several times on each database."""
    goals, lines, names = [], [], []
    for store in stage.stores:
        ratios = []
        for _ in range(scale.rounds):
            before, during, busy = _measure(stage, store, scale)
            ratios.append(during.percentile(99) / before.percentile(99))
            lines += [f"| {store} | answer | | {before} |", f"| {store} | hang | {busy:,} | {during} |"]
        ratio = statistics.median(ratios)
        measured = f"{ratio:.2f}x (median of {', '.join(f'{each:.2f}' for each in ratios)})"
        what = f"isolation, half of {scale.endpoints:,} endpoints hanging, {store}"
        goals.append(Goal(what, "p99 of the others within 1.5x", measured, ratio <= 1.5))
        found = delays_beside_silent_names(stage, store)
        what = f"isolation, an unknown name beside {SILENT} silent names, {store}"
        slowest = f"slowest of {len(found.sorted_ms)}: {found.sorted_ms[-1]:.0f} ms"
        goals.append(Goal(what, "delivered within 1 s", slowest, found.sorted_ms[-1] <= 1_000))
        names.append(f"| {store} | {found} |")
    return Finding(goals, _intro(scale) + "\n".join(lines) + "\n" + _NAMES_INTRO + "\n".join(names) + "\n")


def _measure(stage: Stage, store: str, scale: Scale) -> tuple[Delays, Delays, int]:
    server, receiver, other = stage.serve(stage.database(store)), stage.receiver(), stage.receiver(remembers=False)
    urls = stage.receiver(answer_after_s=None, remembers=False, ports=scale.endpoints // 2).urls
    client = server.client()
    stage.report(f"{store}: {scale.endpoints} endpoints")
    half = [subscribe(client, other.url, _TYPES) for _ in urls]
    healthy = [subscribe(client, receiver.url, _TYPES) for _ in range(scale.endpoints - len(half))]
    both = [each for pair in zip(healthy, half, strict=True) for each in pair]
    _delays(server, receiver, both, 1)
    stage.report(f"{store}: all answer")
    before = _delays(server, receiver, both, scale.before_s)
    for endpoint_id, url in zip(half, urls, strict=True):
        client.call("PATCH", f"/v1/webhook_endpoints/{endpoint_id}", {"url": url})
    stage.report(f"{store}: half of them hang")
    busy = _Highest(server)
    with busy:
        during = _delays(server, receiver, both, scale.hanging_s)
    server.kill()
    return before, during, busy.value


def _delays(server: Server, receiver: Receiver, endpoints: list[str], seconds: float) -> Delays:
    """Test events at random times, for one endpoint after the other; half of these are those of the receiver."""
    receiver.reset()
    calls = round(2 * _PER_S * seconds)
    path = "/v1/webhook_endpoints/{}/test"
    at_random_times(
        server, calls, seconds, lambda client, n: client.call("POST", path.format(endpoints[n % len(endpoints)]), {})
    )
    wait_for(receiver, calls // 2)
    return Delays.of(receiver.hits())


class _Highest:
    """Samples every second how many requests of a server are under way, and keeps the highest."""

    def __init__(self, server: Server) -> None:
        self.value = 0
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._done.wait(1.0):
            self.value = max(self.value, self._server.in_flight())

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


_NAMES_INTRO = f"""
{SILENT} endpoints have host names whose DNS server does not answer, and each gets an event. While all of these look-ups are under way,
20 endpoints of the same account, whose names are not known either, get one.

| store | commit to receipt at those whose DNS server answers |
|---|---|
"""


def _intro(scale: Scale) -> str:
    return f"""{scale.endpoints:,} endpoints of one account get {2 * _PER_S} events/s in turn, at random times, as independent clients cause them: at a
steady rate the events would always coincide with the work that hanging endpoints cause, or never. First all endpoints answer, for
{scale.before_s:.0f} s; then half of them are moved to hosts of their own that accept the request and never answer, so that every attempt takes its
30 s, for {scale.hanging_s:.0f} s: until the first attempts have timed out and others have started. Each pair of rows is a round, with a server and a
database of its own.

| store | half of them | most deliveries under way | commit to receipt at the others |
|---|---|---|---|
"""
