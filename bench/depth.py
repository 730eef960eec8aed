"""The cost of a claim with millions of pending deliveries, compared with a database that has few."""

from bench.bulk import enqueue_everything
from bench.claims import CLAIM_SIZE, Claims, Compared, compared
from bench.measurement import Finding, Goal, Scale
from bench.stage import Stage

_ENDPOINTS = 1_000
_FEW_ENDPOINTS = 10


def depth(stage: Stage, scale: Scale) -> Finding:
    """One claim of 64, on each database."""
    goals, lines = [], []
    for store in stage.stores:
        pending = scale.pending_sqlite if store == "sqlite" else scale.pending_postgres
        claim, scan = _measure(stage, store, pending, scale.claims)
        measured = f"{claim.ratio:.2f}x with {pending:,} pending"
        reached = None if claim.ratio <= 1.5 and pending < 10_000_000 else claim.ratio <= 1.5
        goals.append(Goal(f"depth, {store}", "10 million pending: a claim within 1.5x", measured, reached))
        lines += [
            f"| {store} | claim of {CLAIM_SIZE} | {pending:,} | {claim} |",
            f"| {store} | backlog scan | {pending:,} | {scan} |",
        ]
    return Finding(goals, _INTRO + "\n".join(lines) + "\n")


_INTRO = f"""Medians, in a transaction that is rolled back. "Few": {_FEW_ENDPOINTS} endpoints with {CLAIM_SIZE} pending deliveries each. "Many": {_ENDPOINTS:,}
endpoints with an equal share of all pending deliveries. An engine scans the backlog of all endpoint queues every second; the cost
of a scan grows with the number of endpoints that have pending deliveries, not with the number of deliveries.

| store | what | many | few, ms | many, ms | ratio |
|---|---|---|---|---|---|
"""


def _measure(stage: Stage, store: str, pending: int, times: int) -> tuple[Compared, Compared]:
    few = _with_backlog(stage, store, _FEW_ENDPOINTS, CLAIM_SIZE)
    stage.report(f"{store}: writing {pending:,} deliveries")
    many = _with_backlog(stage, store, _ENDPOINTS, max(CLAIM_SIZE, pending // _ENDPOINTS))
    stage.report(f"{store}: claiming")

    def vacuum() -> None:
        few.vacuum()
        many.vacuum()

    claim = compared(few.claim, many.claim, vacuum, times)
    scan = compared(few.backlog_scan, many.backlog_scan, vacuum, times // 4)
    few.close()
    many.close()
    return claim, scan


def _with_backlog(stage: Stage, store: str, endpoints: int, events: int) -> Claims:
    url = stage.database(store)
    with stage.past(url) as past:
        past.events(past.account_id, events)
        ids = past.endpoints(past.account_id, ["https://localhost:9/"] * endpoints)
        enqueue_everything(url)
        return Claims(url, past.vault, ids)
