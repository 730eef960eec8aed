"""`make bench`: measure, print, and write bench/RESULTS.md."""

import argparse
import os
import platform
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench.end_to_end import Latency, Throughput, latency, sample_bodies, throughput
from bench.ingest import IngestBench, rows
from bench.libcurl_loop import requests_per_second
from bench.receiver import Receiver
from bench.server import Server
from loyalpro.cli.demo.certificates import issue
from loyalpro.kernel.clock import SystemClock

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.postgres import Cluster

RESULTS = Path(__file__).parent / "RESULTS.md"


def main() -> None:
    """Measure both stores, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--stores", default="sqlite,postgres", help="which databases (default: both)")
    parser.add_argument("--purchases", type=int, default=5_000, help="for throughput; each causes two deliveries")
    parser.add_argument("--rounds", type=int, default=3, help="of throughput; the median counts")
    parser.add_argument("--rate", type=int, default=100, help="events a second, for latency")
    parser.add_argument("--seconds", type=float, default=20, help="of latency")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    console = Console()
    sections = []
    for store in options.stores.split(","):
        with tempfile.TemporaryDirectory(prefix="loyalpro-bench-") as folder, console.status(f"measuring on {store}"):
            sections.append(_measure(store, Path(folder), options))
        console.print(sections[-1])
    if not options.no_write:
        RESULTS.write_text(_page(sections))


def _measure(store: str, folder: Path, options: argparse.Namespace) -> str:
    certificates = issue(folder, SystemClock())
    receiver = Receiver(str(certificates.chain_file), str(certificates.key_file))
    cluster = Cluster.start() if store == "postgres" else None
    url = cluster.create_database("bench") if cluster else f"sqlite:///{folder / 'bench.db'}"
    server = Server(url, str(certificates.ca_file), folder)
    try:
        soon = latency(server, receiver, options.rate, options.seconds)
        bodies = sample_bodies(server.client())
        bare, rounds = [], []
        for _ in range(options.rounds):
            bare.append(requests_per_second(receiver.url, str(certificates.ca_file), bodies, options.purchases * 2))
            rounds.append(throughput(server, receiver, options.purchases))
        alone = IngestBench(server)
        for _ in range(options.rounds):
            alone.round(options.purchases)
        return _section(store, soon, rounds, bare) + rows(alone.rounds)
    finally:
        server.stop()
        receiver.stop()
        if cluster:
            cluster.stop()


def _section(store: str, soon: Latency, rounds: list[Throughput], bare: list[float]) -> str:
    ratios = [each.per_s / yardstick for each, yardstick in zip(rounds, bare, strict=True)]
    middle = sorted(rounds, key=lambda each: each.per_s)[len(rounds) // 2]
    return f"""## {store}

| what | measured |
|---|---|
| bare libcurl loop, requests/s (median of {len(bare)}) | {statistics.median(bare):,.0f} |
| end to end, deliveries/s (median of {len(rounds)}, {middle.deliveries:,} each) | {middle.per_s:,.0f} |
| end to end / bare loop, round by round | {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}) |
| ingest while delivering, events/s | {middle.ingest_per_s:,.0f} |
| server CPU for one delivery, ingest included | {middle.cpu_us_each:,.0f} us |
| commit to receipt at {soon.per_s:,.0f} events/s ({soon.events:,} events) | p50 {soon.p50_ms:.1f} ms, p95 {soon.p95_ms:.1f} ms, p99 {soon.p99_ms:.1f} ms |
"""


def _page(sections: list[str]) -> str:
    today = datetime.now(UTC).date()
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    intro = f"""# Results

Command: `make bench`. Measured on {today}: {machine}; client, server, database and receiver share them, so look at the
ratios. "End to end" starts when the first batch of purchases is sent over HTTP and ends when the last webhook has been
answered and its outcome is committed. "Commit to receipt" starts at the event's `created_at`, which is before its commit.

"""
    return intro + "\n".join(sections)


if __name__ == "__main__":
    main()
