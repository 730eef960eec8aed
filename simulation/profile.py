"""What a seed stands for: how many of everything, which faults are on in this run, and how often they strike.

Each run has its own few faults, some of them heavy. With all of them on and mild, most of the interesting orders of events
would never happen.
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
    """How fine the time is. The coarse one makes whole windows of 72 hours cheap."""

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
"""What receivers do here. Their order is a part of what a seed means."""
_NOISE = tuple(each for each in BEHAVIORS if each not in (Behavior.ACCEPT, Behavior.GONE))
_OUTAGES = (Behavior.SERVER_ERROR, Behavior.REFUSE, Behavior.SILENCE, Behavior.LOST_ACCEPT, Behavior.BUSY)


@dataclass(frozen=True, slots=True)
class Profile:
    """One run's world."""

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
    noisy: float
    out: float
    gone: float
    longest_retry_after_s: int
    freeze_sending: float
    """How often a process stands still, for longer than its lease, just as a request of its leaves."""

    @classmethod
    def draw(cls, seed: int) -> "Profile":
        """The profile of a seed."""
        chance = random.Random(f"{seed}/profile")
        pace = chance.choices(PACES, (5, 3, 4))[0]
        span_s = pace.window_s * chance.choice((0.05, 0.3, 0.6))
        heal_s = span_s + pace.window_s * chance.choice((0.0, 0.1, 0.4, 1.1))
        return cls(
            seed=seed,
            pace=pace,
            processes=chance.choices((1, 2, 3), (2, 3, 2))[0],
            accounts=chance.choice((1, 2)),
            endpoints=chance.randint(1, 4),
            customers=chance.randint(1, 4),
            events=chance.randint(3, 12),
            span_s=span_s,
            heal_s=heal_s,
            skew_ms=_sometimes(chance, 0.3, int(pace.lease_ttl_s * 300)) or 0,
            database_faults=_rates(chance, _DATABASE_FAULTS, on=0.3, highest=0.05),
            database_outages=_outages(chance, heal_s),
            longest_freeze_s=pace.lease_ttl_s * chance.choice((0.5, 2.5)),
            longest_latency_s=chance.choice((0.0, 0.01, 0.2, 2.0)),
            crash_every_s=_sometimes(chance, 0.4, heal_s / chance.randint(1, 10)),
            freeze_every_s=_sometimes(chance, 0.4, heal_s / chance.randint(1, 10)),
            stop_every_s=_sometimes(chance, 0.3, heal_s / chance.randint(1, 6)),
            owner_every_s=_sometimes(chance, 0.4, heal_s / chance.randint(1, 20)),
            noisy=chance.choice((0.0, 0.1, 0.4)),
            out=chance.choice((0.0, 0.0, 0.3, 0.6)),
            gone=_sometimes(chance, 0.2, 0.1) or 0.0,
            longest_retry_after_s=int(pace.window_s * chance.choice((0.0, 0.05, 0.5))),
            freeze_sending=chance.choice((0.0, 0.1, 0.4)),
        )


def draw_mix(profile: Profile, chance: random.Random) -> BehaviorMix:
    """How often one receiver shows which behavior."""
    shares = _rates(chance, _NOISE, on=0.4, highest=profile.noisy)
    return BehaviorMix(shares | ({Behavior.GONE: profile.gone} if profile.gone else {}))


def draw_outage(profile: Profile, chance: random.Random) -> Outage | None:
    """When one receiver is away, and how it shows."""
    if chance.random() >= profile.out:
        return None
    begin_s = chance.uniform(0.0, profile.span_s)
    return Outage(begin_s, begin_s + chance.random() * 1.5 * profile.pace.window_s, chance.choice(_OUTAGES))


def _sometimes(chance: random.Random, on: float, value: T) -> T | None:
    return value if chance.random() < on else None


def _rates(chance: random.Random, kinds: tuple[T, ...], *, on: float, highest: float) -> dict[T, float]:
    return {each: chance.random() * highest for each in kinds if chance.random() < on}


def _outages(chance: random.Random, heal_s: float) -> tuple[tuple[float, float], ...]:
    count = chance.choice((0, 0, 0, 1, 2))
    begins = [chance.uniform(0.0, heal_s) for _ in range(count)]
    return tuple((begin_s, begin_s + chance.random() * min(heal_s * 0.1, 60.0)) for begin_s in begins)
