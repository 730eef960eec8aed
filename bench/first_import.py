"""The first import of a business: a million purchases, with receipt numbers, into a new database, as fast as they are accepted.

A new database has no statistics, and every table grows from nothing. Each purchase has to cost the same from the first to the last.
"""

import statistics

from bench.ingest import Ingest, IngestBench
from bench.load import BATCH, EVENTS_PER_PURCHASE
from bench.measurement import Finding, Goal, Scale
from bench.stage import Stage

_PARTS = 10
_LEAST_RATIO = 0.8


def first_import(stage: Stage, scale: Scale) -> Finding:
    """On each database: the rate of the last tenth beside the first."""
    goals, tables = [], []
    for store in stage.stores:
        parts = _import(stage, store, scale)
        ratio = parts[-1].per_s / parts[0].per_s
        goals.append(
            Goal(
                f"first import, {store}",
                f"the last tenth at least {_LEAST_RATIO}x the first",
                f"{ratio:.2f}x",
                ratio >= _LEAST_RATIO,
            )
        )
        tables.append(_table(store, parts, scale))
    return Finding(goals, "\n".join(tables))


def _import(stage: Stage, store: str, scale: Scale) -> list[Ingest]:
    """The rate of each tenth."""
    server = stage.serve(stage.database(store))
    bench = IngestBench(server, scale.buyers, paused_endpoint=False)
    parts = []
    for part in range(_PARTS):
        stage.report(f"{store}: part {part + 1} of {_PARTS}")
        parts.append(bench.in_batches(scale.imported // _PARTS))
    server.kill()
    return parts


def _table(store: str, parts: list[Ingest], scale: Scale) -> str:
    rows = "\n".join(
        f"| {number} | {part.per_s / EVENTS_PER_PURCHASE:,.0f} | {part.cpu_us_each * EVENTS_PER_PURCHASE:,.0f} |"
        for number, part in enumerate(parts, 1)
    )
    median = statistics.median(part.per_s for part in parts) / EVENTS_PER_PURCHASE
    return (
        f"{store}: {scale.imported:,} purchases in batches of {BATCH}, by one client; median of the tenths {median:,.0f}/s.\n\n"
        f"| tenth | purchases/s | server CPU, us each |\n|---|---|---|\n{rows}\n"
    )
