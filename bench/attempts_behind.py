"""What new deliveries cost with millions of old ones and their attempts behind them."""

from bench.bulk import ATTEMPTS_EACH, deliver_everything
from bench.claims import ROOM, Claims, Compared, compared
from bench.measurement import Finding, Goal, Scale
from bench.stage import Stage
from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, VirtualClock

_LANES = 100
_GOAL = 100_000_000


def attempts_behind(stage: Stage, scale: Scale) -> Finding:
    """One claim and its settlement, on every store."""
    goals, lines = [], []
    for store in stage.stores:
        cost = _measure(stage, store, scale)
        measured = f"{cost.ratio:.2f}x with {scale.attempts:,} behind"
        reached = cost.ratio <= 1.2 if cost.ratio > 1.2 or scale.attempts >= _GOAL else None
        goals.append(Goal(f"old attempts, {store}", "100 million do not slow new ones", measured, reached))
        lines.append(f"| {store} | {scale.attempts:,} | {cost} |")
    return Finding(goals, _INTRO + "\n".join(lines) + "\n")


_INTRO = f"""A claim of {ROOM} and the settlement of all of them, in a transaction that is undone: medians. Behind them lie the events,
deliveries and attempts of five days ago, {ATTEMPTS_EACH} attempts for each delivery.

| store | many | few, ms | many, ms | ratio |
|---|---|---|---|---|
"""


def _measure(stage: Stage, store: str, scale: Scale) -> Compared:
    few = _with_past(stage, store, ATTEMPTS_EACH * _LANES)
    stage.say(f"{store}: writing {scale.attempts:,} attempts")
    many = _with_past(stage, store, scale.attempts)
    stage.say(f"{store}: claiming and settling")

    def tidy() -> None:
        few.tidy()
        many.tidy()

    cost = compared(few.claim_and_settle, many.claim_and_settle, tidy, scale.claims)
    few.close()
    many.close()
    return cost


def _with_past(stage: Stage, store: str, attempts: int) -> Claims:
    """So many that were made five days ago; 64 that each endpoint is owed now."""
    url = stage.database(store)
    with stage.past(url, VirtualClock(SystemClock().now_ms() - 5 * MS_PER_DAY)) as past:
        past.events(past.account_id, attempts // (ATTEMPTS_EACH * _LANES))
        endpoints = past.endpoints(past.account_id, ["https://localhost:9/"] * _LANES)
        deliver_everything(url)
    with stage.past(url) as past:
        past.events(past.account_id, ROOM)
        return Claims(url, past.vault, endpoints)
