"""What a seed of the loyalty program means: how long a run is, what its clients do, and which faults happen how often."""

import random
from dataclasses import dataclass

from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.program import RefundPolicy
from loyalpro.loyalty.tiers import TierPolicy
from simulation.database import Fault
from simulation.profile import draw_outages, draw_rates, sometimes

_HOUR_S, _DAY_S = 3_600.0, 86_400.0
_DATABASE_FAULTS = tuple(each for each in Fault if each is not Fault.NONE)
_EXPIRIES = (
    ExpiryPolicy(kind="days", n=1),
    ExpiryPolicy(kind="days", n=20),
    ExpiryPolicy(kind="months", n=1, until="month"),
    ExpiryPolicy(kind="inactivity", n=1),
    ExpiryPolicy(),
)


@dataclass(frozen=True, slots=True)
class ProgramPace:
    """How often the sweeps run, and how long clients send commands. With long intervals, months take few steps."""

    name: str
    every_s: float
    span_s: float


PACES = (
    ProgramPace("hours", _HOUR_S / 4, 12 * _HOUR_S),
    ProgramPace("days", 6 * _HOUR_S, 15 * _DAY_S),
    ProgramPace("months", 2 * _DAY_S, 150 * _DAY_S),
)


@dataclass(frozen=True, slots=True)
class ProgramRules:
    """The part of the rules of a program that a run draws."""

    expiry: ExpiryPolicy
    refunds: RefundPolicy
    tiering: TierPolicy
    pending_days: int
    silver: int

    @classmethod
    def draw(cls, rng: random.Random, tiering: TierPolicy | None = None) -> "ProgramRules":
        """Random rules, with these rules for tiers if they are given."""
        return cls(
            expiry=rng.choice(_EXPIRIES),
            refunds=RefundPolicy(
                shortfall=rng.choice(("allow_negative", "within_balance", "only_pending")),
                restore_expired=rng.choice(("extend", "expire_now")),
                tier=rng.choice(("at_review", "immediate")),
            ),
            tiering=tiering or TierPolicy(grace_days=rng.choice((0, 0, 2))),
            pending_days=rng.choice((0, 0, 1, 3, 14)),
            silver=rng.choice((100, 500, 1_000)),
        )


@dataclass(frozen=True, slots=True)
class ProgramProfile:
    """The parameters of one run."""

    seed: int
    pace: ProgramPace
    rules: ProgramRules
    processes: int
    customers: int
    requests: int
    heal_s: float
    skew_ms: int
    database_faults: dict[Fault, float]
    database_outages: tuple[tuple[float, float], ...]
    longest_freeze_s: float
    longest_latency_s: float
    crash_every_s: float | None
    freeze_every_s: float | None
    stop_every_s: float | None

    @classmethod
    def draw(cls, seed: int) -> "ProgramProfile":
        """The profile of a seed."""
        rng = random.Random(f"{seed}/program profile")
        pace = rng.choices(PACES, (3, 4, 4))[0]
        heal_s = pace.span_s * rng.choice((1.0, 1.1))
        return cls(
            seed=seed,
            pace=pace,
            rules=ProgramRules.draw(rng),
            processes=rng.choices((1, 2, 3), (1, 3, 2))[0],
            customers=rng.randint(1, 4),
            requests=rng.randint(10, 30),
            heal_s=heal_s,
            skew_ms=sometimes(rng, 0.4, int(pace.every_s * 400)) or 0,
            database_faults=draw_rates(rng, _DATABASE_FAULTS, on=0.35, highest=0.08),
            database_outages=draw_outages(rng, heal_s, longest_s=2 * pace.every_s),
            longest_freeze_s=pace.every_s * rng.choice((0.5, 2.5)),
            longest_latency_s=rng.choice((0.0, 0.2, 2.0)),
            crash_every_s=sometimes(rng, 0.4, heal_s / rng.randint(2, 12)),
            freeze_every_s=sometimes(rng, 0.4, heal_s / rng.randint(2, 12)),
            stop_every_s=sometimes(rng, 0.3, heal_s / rng.randint(2, 6)),
        )
