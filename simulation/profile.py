"""What a seed means: the size of a run, which faults are enabled in it, and how often they happen.

Each run enables a few faults, some of them frequent. If every run had all faults at a low rate, most of the interesting
sequences of events would never happen.
"""

import random
from dataclasses import dataclass
from typing import TypeVar

from loyalpro.delivery.schedule import WINDOW_S
from receivers.behavior import Behavior, BehaviorMix
from receivers.receiver import Outage
from simulation.database import Fault

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """The intervals of the engine. With long ones, a whole window of 72 hours takes few steps."""

    name: str
    poll_s: float
    lease_ttl_s: float
    window_s: float


PACES = (
    Pace("minutes", 15.0, 60.0, 600.0),
    Pace("hours", 240.0, 960.0, 3 * 3600.0),
    Pace("days", 3600.0, 4 * 3600.0, float(WINDOW_S)),
)
_DATABASE_FAULTS = tuple(each for each in Fault if each is not Fault.NONE)
BEHAVIORS = (
    Behavior.ACCEPT,
    Behavior.SERVER_ERROR,
    Behavior.CLIENT_ERROR,
    Behavior.BUSY,
    Behavior.UNAVAILABLE,
    Behavior.GONE,
    Behavior.MOVED,
    Behavior.REFUSE,
    Behavior.SILENCE,
    Behavior.SILENT_ACCEPT,
    Behavior.LOST_ACCEPT,
    Behavior.GARBAGE,
)
"""What receivers do in a run. The order is a part of the meaning of a seed."""
_ERRORS = tuple(each for each in BEHAVIORS if each not in (Behavior.ACCEPT, Behavior.GONE))
_OUTAGES = (Behavior.SERVER_ERROR, Behavior.REFUSE, Behavior.SILENCE, Behavior.LOST_ACCEPT, Behavior.BUSY)


@dataclass(frozen=True, slots=True)
class Profile:
    """The parameters of one run."""

    seed: int
    pace: Pace
    processes: int
    accounts: int
    endpoints: int
    customers: int
    events: int
    span_s: float
    heal_s: float
    skew_ms: int
    database_faults: dict[Fault, float]
    database_outages: tuple[tuple[float, float], ...]
    longest_freeze_s: float
    longest_latency_s: float
    crash_every_s: float | None
    freeze_every_s: float | None
    stop_every_s: float | None
    owner_every_s: float | None
    highest_error_share: float
    outage_probability: float
    gone_share: float
    longest_retry_after_s: int
    freeze_at_send: float
    """The probability that a process is frozen for longer than its lease when it sends a request."""
    ended_connections: float
    """The share of the requests whose connection ends, in an orderly way, before the receiver begins to answer."""

    @property
    def freezes(self) -> bool:
        """Whether a process may be frozen."""
        by_database = self.database_faults.keys() & {Fault.FREEZE_BEFORE, Fault.FREEZE_AFTER}
        return bool(self.freeze_every_s or self.freeze_at_send or by_database)

    @classmethod
    def draw(cls, seed: int) -> "Profile":
        """The profile of a seed."""
        rng = random.Random(f"{seed}/profile")
        pace = rng.choices(PACES, (5, 3, 4))[0]
        span_s = pace.window_s * rng.choice((0.05, 0.3, 0.6))
        heal_s = span_s + pace.window_s * rng.choice((0.0, 0.1, 0.4, 1.1))
        return cls(
            seed=seed,
            pace=pace,
            processes=rng.choices((1, 2, 3), (2, 3, 2))[0],
            accounts=rng.choice((1, 2)),
            endpoints=rng.randint(1, 4),
            customers=rng.randint(1, 4),
            events=rng.randint(3, 12),
            span_s=span_s,
            heal_s=heal_s,
            skew_ms=sometimes(rng, 0.3, int(pace.lease_ttl_s * 300)) or 0,
            database_faults=draw_rates(rng, _DATABASE_FAULTS, on=0.3, highest=0.05),
            database_outages=draw_outages(rng, heal_s, longest_s=60.0),
            longest_freeze_s=pace.lease_ttl_s * rng.choice((0.5, 2.5)),
            longest_latency_s=rng.choice((0.0, 0.01, 0.2, 2.0)),
            crash_every_s=sometimes(rng, 0.4, heal_s / rng.randint(1, 10)),
            freeze_every_s=sometimes(rng, 0.4, heal_s / rng.randint(1, 10)),
            stop_every_s=sometimes(rng, 0.3, heal_s / rng.randint(1, 6)),
            owner_every_s=sometimes(rng, 0.4, heal_s / rng.randint(1, 20)),
            highest_error_share=rng.choice((0.0, 0.1, 0.4)),
            outage_probability=rng.choice((0.0, 0.0, 0.3, 0.6)),
            gone_share=sometimes(rng, 0.2, 0.1) or 0.0,
            longest_retry_after_s=int(pace.window_s * rng.choice((0.0, 0.05, 0.5))),
            freeze_at_send=rng.choice((0.0, 0.1, 0.4)),
            ended_connections=sometimes(rng, 0.25, 0.4) or 0.0,
        )


def draw_mix(profile: Profile, rng: random.Random) -> BehaviorMix:
    """How often one receiver shows each behavior."""
    shares = draw_rates(rng, _ERRORS, on=0.4, highest=profile.highest_error_share)
    return BehaviorMix(shares | ({Behavior.GONE: profile.gone_share} if profile.gone_share else {}))


def draw_outage(profile: Profile, rng: random.Random) -> Outage | None:
    """An outage of one receiver, or none."""
    if rng.random() >= profile.outage_probability:
        return None
    begin_s = rng.uniform(0.0, profile.span_s)
    return Outage(begin_s, begin_s + rng.random() * 1.5 * profile.pace.window_s, rng.choice(_OUTAGES))


def sometimes(rng: random.Random, on: float, value: T) -> T | None:
    """The value with this probability, else None."""
    return value if rng.random() < on else None


def draw_rates(rng: random.Random, kinds: tuple[T, ...], *, on: float, highest: float) -> dict[T, float]:
    """How often each kind happens, of those that are enabled, each with the probability `on`."""
    return {each: rng.random() * highest for each in kinds if rng.random() < on}


def draw_outages(rng: random.Random, heal_s: float, *, longest_s: float) -> tuple[tuple[float, float], ...]:
    """When the database does not answer: the begin and the end of each outage."""
    count = rng.choice((0, 0, 0, 1, 2))
    begins = [rng.uniform(0.0, heal_s) for _ in range(count)]
    return tuple((begin_s, begin_s + rng.random() * min(heal_s * 0.1, longest_s)) for begin_s in begins)
