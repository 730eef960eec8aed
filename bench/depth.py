"""What a claim costs with millions of deliveries pending, beside a database that owes almost nothing."""

from bench.bulk import owe_everything
from bench.claims import ROOM, Claims, Compared, compared
from bench.measurement import Finding, Goal, Scale
from bench.stage import Stage

_LANES = 1_000
_FEW_LANES = 10


def depth(stage: Stage, scale: Scale) -> Finding:
    """One claim of 64, on every store."""
    goals, lines = [], []
    for store in stage.stores:
        pending = scale.pending_sqlite if store == "sqlite" else scale.pending_postgres
        claim, survey = _measure(stage, store, pending, scale.claims)
        measured = f"{claim.ratio:.2f}x with {pending:,} pending"
        reached = None if claim.ratio <= 1.5 and pending < 10_000_000 else claim.ratio <= 1.5
        goals.append(Goal(f"depth, {store}", "10 million pending: a claim within 1.5x", measured, reached))
        lines += [
            f"| {store} | claim of {ROOM} | {pending:,} | {claim} |",
            f"| {store} | survey | {pending:,} | {survey} |",
        ]
    return Finding(goals, _INTRO + "\n".join(lines) + "\n")


_INTRO = f"""Medians, in a transaction that is undone. "Few": {_FEW_LANES} endpoints that are owed {ROOM} deliveries each. "Many": {_LANES:,}
endpoints that share all the others evenly. A survey is the look at all lanes that an engine takes every second; it grows
with the number of endpoints that are owed something, not with what they are owed.

| store | what | many | few, ms | many, ms | ratio |
|---|---|---|---|---|---|
"""


def _measure(stage: Stage, store: str, pending: int, times: int) -> tuple[Compared, Compared]:
    few = _owing(stage, store, _FEW_LANES, ROOM)
    stage.say(f"{store}: writing {pending:,} deliveries")
    many = _owing(stage, store, _LANES, max(ROOM, pending // _LANES))
    stage.say(f"{store}: claiming")

    def tidy() -> None:
        few.tidy()
        many.tidy()

    claim = compared(few.claim, many.claim, tidy, times)
    survey = compared(few.survey, many.survey, tidy, times // 4)
    few.close()
    many.close()
    return claim, survey


def _owing(stage: Stage, store: str, lanes: int, events: int) -> Claims:
    url = stage.database(store)
    with stage.past(url) as past:
        past.events(past.account_id, events)
        endpoints = past.endpoints(past.account_id, ["https://localhost:9/"] * lanes)
        owe_everything(url)
        return Claims(url, past.vault, endpoints)
