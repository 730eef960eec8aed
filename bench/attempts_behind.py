"""The cost of new deliveries with millions of old deliveries and attempts in the database."""

from bench.bulk import ATTEMPTS_EACH, deliver_everything
from bench.claims import CLAIM_SIZE, Claims, Compared, compared
from bench.measurement import Finding, Goal, Scale
from bench.stage import Stage
from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, VirtualClock

_ENDPOINTS = 100
_GOAL = 100_000_000


def attempts_behind(stage: Stage, scale: Scale) -> Finding:
    """One claim and its settlement, on each database."""
    goals, lines = [], []
    for store in stage.stores:
        cost = _measure(stage, store, scale)
        measured = f"{cost.ratio:.2f}x with {scale.attempts:,} old ones"
        reached = cost.ratio <= 1.2 if cost.ratio > 1.2 or scale.attempts >= _GOAL else None
        goals.append(Goal(f"old attempts, {store}", "100 million do not slow new ones", measured, reached))
        lines.append(f"| {store} | {scale.attempts:,} | {cost} |")
    return Finding(goals, _INTRO + "\n".join(lines) + "\n")


_INTRO = f"""Medians of a claim of {CLAIM_SIZE} and the settlement of all of them, in a transaction that is rolled back. The database also holds
events, deliveries and attempts of five days ago, {ATTEMPTS_EACH} attempts for each delivery.

| store | many | few, ms | many, ms | ratio |
|---|---|---|---|---|
"""


def _measure(stage: Stage, store: str, scale: Scale) -> Compared:
    few = _with_past(stage, store, ATTEMPTS_EACH * _ENDPOINTS)
    stage.report(f"{store}: writing {scale.attempts:,} attempts")
    many = _with_past(stage, store, scale.attempts)
    stage.report(f"{store}: claiming and settling")

    def vacuum() -> None:
        few.vacuum()
        many.vacuum()

    cost = compared(few.claim_and_settle, many.claim_and_settle, vacuum, scale.claims)
    few.close()
    many.close()
    return cost


def _with_past(stage: Stage, store: str, attempts: int) -> Claims:
    """A database with this number of attempts of five days ago, and 64 pending deliveries for each endpoint."""
    url = stage.database(store)
    with stage.past(url, VirtualClock(SystemClock().now_ms() - 5 * MS_PER_DAY)) as past:
        past.events(past.account_id, attempts // (ATTEMPTS_EACH * _ENDPOINTS))
        endpoints = past.endpoints(past.account_id, ["https://localhost:9/"] * _ENDPOINTS)
        deliver_everything(url)
    with stage.past(url) as past:
        past.events(past.account_id, CLAIM_SIZE)
        return Claims(url, past.vault, endpoints)
