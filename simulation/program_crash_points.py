"""Small runs of the loyalty program in which one database call or one step fails: the first, then the second, until none is left."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.loyalty.adjustments import AdjustPoints, adjust_points
from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.merging import MergeCustomer, merge_customer
from loyalpro.loyalty.program import RefundPolicy
from loyalpro.loyalty.program_changes import ChangeProgram, change_program
from loyalpro.loyalty.recording import NewPurchase, Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.redemptions import MadeRedemption, RedeemPoints, RedemptionRef, cancel_redemption, redeem_points
from loyalpro.loyalty.refunds import NewRefund, RefundPurchase, refund_purchase
from loyalpro.loyalty.tiers import TierPolicy
from loyalpro.storage.unit_of_work import UnitOfWork
from simulation.crash_points import ProcessFault
from simulation.database import ON_READS, Call, Fault, FaultAt, NoFaults
from simulation.loop import Process, VirtualLoop, pass_time
from simulation.program import ProgramWorld
from simulation.program_commands import Answer, Request, draft
from simulation.program_profile import ProgramPace, ProgramProfile, ProgramRules
from simulation.program_run import ProgramReport, run_program

_EVERY_S = 12 * 3_600.0
_PACE = ProgramPace("crash points", _EVERY_S, 4.5 * _EVERY_S)
_FREEZE_S = 1.5 * _EVERY_S
_PAUSES_S = {
    Fault.COMMIT_LOST: 12.0,
    Fault.ANSWER_LOST: 12.0,
    Fault.LATE_COMMIT: 50.0,
    Fault.FREEZE_BEFORE: _FREEZE_S,
    Fault.FREEZE_AFTER: _FREEZE_S,
}
"""A lost answer is detected before the client repeats its request. A frozen process misses a run of its sweeps."""
_RULES = ProgramRules(ExpiryPolicy(kind="days", n=1), RefundPolicy(), TierPolicy(), pending_days=0, silver=100)

Step = Callable[["SmallProgram", UnitOfWork, UnixMs], Answer]


class SmallProgram(ProgramWorld):
    """Two processes, and a client that sends one command of each kind after the other, while the sweeps do one of each kind.

    Points are earned, expire, become active and are given back by a reservation whose time passes; a change of the tiers moves
    customers.
    """

    def _start_clients(self) -> list["asyncio.Task[None]"]:
        return [self.loop.create_task(self._run_script(), name="script")]

    async def _run_script(self) -> None:
        for number, (at, kind, step) in enumerate(_SCRIPT):
            await pass_time(at * _EVERY_S - self.loop.time())
            request = Request(kind, f"order-{number}", partial(_run, step, self, self.now))
            self.shop.requests.append(request)
            await self._send(request, self._rng(f"step {number}"))
            self.shop.known.learn(request)


def _run(step: Step, world: SmallProgram, now: UnixMs, unit: UnitOfWork) -> Answer:
    return step(world, unit, now)


def _buy(world: SmallProgram, unit: UnitOfWork, now: UnixMs) -> Answer:
    """Two purchases of two customers, the second of them so old that its points have expired."""
    ages_s = (3_600.0, 40 * 86_400.0)
    batch = [
        NewPurchase(
            customer_id=customer,
            customer_external_id=None,
            external_id=f"order-0.{place}",
            amount=20_000,
            currency="EUR",
            occurred_at=now - int(age_s * MS_PER_S),
            items=[],
            channel=None,
            location_id=None,
            employee_id=None,
            metadata={},
        )
        for place, (customer, age_s) in enumerate(zip(world.shop.known.customers, ages_s, strict=True))
    ]
    outcomes = record_purchases(unit, RecordPurchases(world.account_id, batch))
    return {
        str(new.external_id): each.transaction.id if isinstance(each, Purchase) else each
        for new, each in zip(batch, outcomes, strict=True)
    }


def _reserve(world: SmallProgram, unit: UnitOfWork, name: str) -> Answer:
    customer, reserve_ms = world.shop.known.customers[0], int(_EVERY_S * MS_PER_S)
    command = RedeemPoints(world.account_id, customer, None, 30, None, reserve_ms, None, name, None, None)
    made = redeem_points(unit, command)
    return {name: made.redemption.id if isinstance(made, MadeRedemption) else made}


def _cancel(world: SmallProgram, unit: UnitOfWork, _now: UnixMs) -> Answer:
    id_ = world.shop.known.redemptions[0]
    return {"order-2": cancel_redemption(unit, RedemptionRef(world.account_id, id_)).id}


def _refund(world: SmallProgram, unit: UnitOfWork, _now: UnixMs) -> Answer:
    new = NewRefund(transaction_id=world.shop.known.purchases[0], amount=5_000, external_id="order-4")
    return {"order-4": refund_purchase(unit, RefundPurchase(world.account_id, new)).refund.id}


def _adjust(world: SmallProgram, unit: UnitOfWork, now: UnixMs) -> Answer:
    ends_at = now + int(1.5 * _EVERY_S * MS_PER_S)
    customer = world.shop.known.customers[1]
    command = AdjustPoints(world.account_id, customer, 70, "goodwill", None, ends_at, False, False, "order-5")
    made = adjust_points(unit, command)
    assert not isinstance(made, Exception)
    return {"order-5": made.adjustment.id}


def _change_tiers(world: SmallProgram, unit: UnitOfWork, _now: UnixMs) -> Answer:
    rules = replace(_RULES, silver=150)
    change_program(unit, ChangeProgram(world.account_id, lambda version: draft(version, rules)))
    return {}


def _merge(world: SmallProgram, unit: UnitOfWork, _now: UnixMs) -> Answer:
    gone, into = world.shop.known.customers
    merge_customer(unit, MergeCustomer(world.account_id, gone, into))
    return {"order-7": gone}


_SCRIPT: tuple[tuple[float, str, Step], ...] = (
    (0.3, "record", _buy),
    (0.4, "redeem", lambda world, unit, _: _reserve(world, unit, "order-1")),
    (0.5, "cancel", _cancel),
    (0.6, "redeem", lambda world, unit, _: _reserve(world, unit, "order-3")),
    (2.3, "refund", _refund),
    (2.4, "adjust", _adjust),
    (2.5, "change_program", _change_tiers),
    (4.2, "merge", _merge),
)
"""When each command is sent, in intervals of the sweeps, its kind, and what it does."""


def run_call(kind: Fault, number: int) -> ProgramReport | None:
    """The run in which call `number`, or change `number`, has this fault; None if there are fewer."""
    fault = _FaultAt(number, kind, _PAUSES_S.get(kind, 0.0))
    report = run_program(_PROFILE, lambda _: fault, world=SmallProgram)
    return report if fault.fired else None


def run_step(fault: ProcessFault, number: int) -> ProgramReport | None:
    """The run in which a process has this fault at step `number`; None if there are fewer steps."""
    worlds: list[SmallProgram] = []

    class StepWorld(SmallProgram):
        def on_step(self, process: Process) -> None:
            self.counted["steps"] += 1
            if self.counted["steps"] == number:
                self.loop.on_step = None
                if fault is ProcessFault.STOP:
                    self.stop(process)
                elif fault is ProcessFault.FREEZE:
                    process.freeze(_FREEZE_S)
                else:
                    process.kill()

        async def run(self) -> None:
            worlds.append(self)
            self.loop.on_step = self.on_step
            await super().run()

    report = run_program(_PROFILE, _slowly, world=StepWorld)
    return report if worlds[0].counted["steps"] >= number else None


@dataclass
class _FaultAt(FaultAt):
    """One call fails. For what can only happen to a change, the changes are counted."""

    changes: int = 0

    def fault(self, call: Call) -> Fault:
        if self.kind in ON_READS:
            return super().fault(call)
        self.changes += call.writes
        return super().fault(replace(call, number=self.changes if call.writes else 0))


class _Slow(NoFaults):
    def latency_s(self) -> float:
        return 0.001


def _slowly(_: VirtualLoop) -> NoFaults:
    return _Slow()


_PROFILE = ProgramProfile(
    seed=0,
    pace=_PACE,
    rules=_RULES,
    processes=2,
    customers=2,
    requests=0,
    heal_s=_PACE.span_s,
    skew_ms=0,
    database_faults={},
    database_outages=(),
    longest_freeze_s=0.0,
    longest_latency_s=0.0,
    crash_every_s=None,
    freeze_every_s=None,
    stop_every_s=None,
)
