"""Mutants: each has one programming mistake. The checker has to find every one of them.

This module is the only one of the simulation that names private functions of the product.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

from loyalpro.delivery.attempt import OutcomeCode, SendResult, classify
from loyalpro.delivery.attempt_runner import AttemptRunner
from loyalpro.delivery.claims import BacklogPage, Claimed, ClaimRequest, ClaimResult
from loyalpro.delivery.decide import close_unsent, decide
from loyalpro.delivery.endpoint_queue import EndpointQueue
from loyalpro.delivery.endpoint_queues import EndpointQueues
from loyalpro.delivery.engine import Engine
from loyalpro.delivery.ports import WorkerId
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.settlement import Attempt, Settled, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.events.new_event import NewEvent
from loyalpro.events.outbox import Outbox, Subscription
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import StoreError
from loyalpro.storage.connection import Connection
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.tables.attempts import insert_attempts
from loyalpro.storage.tables.claims import ClaimTables
from loyalpro.storage.tables.counters import count_attempts
from loyalpro.storage.tables.deliveries import DeliveryTables
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.tables.settlements import SettlementTables, _lease_of
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, UnitOfWork
from loyalpro.transport.request import sign_attempt
from loyalpro.webhooks.entities import Endpoint, PastEvent, Replay
from loyalpro.webhooks.ports import WebhooksUnit
from loyalpro.webhooks.replays import MISSING, _make_due
from simulation.mutation import Mutant, WrongFunction, wrong, wrong_sql

Headers = tuple[tuple[str, str], ...]


# -- events and fan-out ----------------------------------------------------------------------------------------------


class _Recorder:
    """Takes the place of an outbox, and writes nothing."""

    def __init__(self) -> None:
        self.events: list[NewEvent] = []

    def emit(self, event: NewEvent, _: object) -> None:
        self.events.append(event)

    def flush(self) -> frozenset[str]:
        return frozenset()


async def _fan_out_afterwards(
    change: Callable[..., Awaitable[Any]],
    runner: DatabaseUnitOfWorkRunner,
    work: Callable[[UnitOfWork], Any],
    writer: Any = "ingest",
) -> Any:
    recorders: list[_Recorder] = []

    def without_events(unit: UnitOfWork) -> Any:
        recorders.append(_Recorder())
        unit.outbox = cast("Outbox", recorders[-1])
        return work(unit)

    def events_only(unit: UnitOfWork) -> None:
        for event in recorders[-1].events:
            unit.outbox.emit(event)

    result = await change(runner, without_events, writer)
    await change(runner, events_only, writer)
    return result


def _wants_everything(_: object, subscription: Subscription, event_type: str) -> bool:
    return True


# -- claims and leases -----------------------------------------------------------------------------------------------


def _no_expired_workers(_: object, tables: LeaseTables, now: UnixMs) -> list[WorkerId]:
    return []


async def _forget_failed_claim(claim: Callable[[Engine], Awaitable[int]], engine: Engine) -> int:
    try:
        return await claim(engine)
    except StoreError:
        return 0


def _begin_window_now(
    claim: Callable[..., ClaimResult],
    tables: ClaimTables,
    worker: WorkerId,
    requests: Sequence[ClaimRequest],
    now: UnixMs,
    closing_since: UnixMs,
) -> ClaimResult:
    result = claim(tables, worker, requests, now, closing_since)
    return replace(result, claimed=[replace(each, first_attempt_at=now) for each in result.claimed])


def _omit_interrupted(
    insert: Callable[..., None], connection: Connection, attempts: Sequence[tuple[str, Attempt]]
) -> None:
    insert(connection, [each for each in attempts if each[1].outcome is not OutcomeCode.INTERRUPTED])


def _count_no_interrupted(
    count: Callable[..., None],
    connection: Connection,
    worker: str,
    attempts: Sequence[tuple[str, Attempt]],
    now: UnixMs,
) -> None:
    count(connection, worker, [each for each in attempts if each[1].outcome is not OutcomeCode.INTERRUPTED], now)


# -- one attempt -----------------------------------------------------------------------------------------------------


async def _succeed_before_the_send(
    deliver: Callable[..., Awaitable[bool]], engine: Engine, claimed: Claimed, worker: WorkerId
) -> bool:
    settlement = replace(close_unsent(claimed, engine._clock.now_ms()), status=DeliveryStatus.SUCCEEDED)
    await engine._writer.settle(worker, settlement)
    return await deliver(engine, claimed, worker)


def _new_event_id(sign: Callable[..., Headers], claimed: Claimed, *, timestamp_s: int, primary: int) -> Headers:
    event_id = claimed.event_id[:-1] + str(claimed.attempt_number % 10)
    return sign(replace(claimed, event_id=event_id), timestamp_s=timestamp_s, primary=primary)


async def _new_bytes(
    run: Callable[..., Awaitable[tuple[Attempt, int | None]]], runner: AttemptRunner, claimed: Claimed
) -> tuple[Attempt, int | None]:
    body = claimed.body + b" " * (claimed.attempt_number - 1)
    return await run(runner, replace(claimed, body=body))


def _is_over(_: object, runner: AttemptRunner, attempt: object) -> bool:
    return True


def _failure_is_success(classify_: Callable[[SendResult], OutcomeCode], result: SendResult) -> OutcomeCode:
    return OutcomeCode.SUCCEEDED if result.failure else classify_(result)


# -- what follows from an attempt ------------------------------------------------------------------------------------


def _canceled_not_exhausted(decide_: Callable[..., Settlement], claimed: Claimed, *args: Any, **kw: Any) -> Settlement:
    settlement = decide_(claimed, *args, **kw)
    exhausted = settlement.status is DeliveryStatus.EXHAUSTED and claimed.fallback is None
    return replace(settlement, status=DeliveryStatus.CANCELED) if exhausted else settlement


def _exhausted_at_the_third(decide_: Callable[..., Settlement], claimed: Claimed, *args: Any, **kw: Any) -> Settlement:
    settlement = decide_(claimed, *args, **kw)
    third = settlement.status is DeliveryStatus.PENDING and claimed.attempt_number >= 3 and claimed.fallback is None
    return replace(settlement, status=DeliveryStatus.EXHAUSTED) if third else settlement


def _due_never(decide_: Callable[..., Settlement], claimed: Claimed, *args: Any, **kw: Any) -> Settlement:
    settlement = decide_(claimed, *args, **kw)
    pending = settlement.status is DeliveryStatus.PENDING and claimed.fallback is None
    return replace(settlement, due_at=2 * (settlement.due_at or 0)) if pending else settlement


def _due_after_the_window(next_at: Callable[..., UnixMs | None], schedule: RetrySchedule, **kw: Any) -> UnixMs | None:
    unbounded = next_at(replace(schedule, window_s=1_000 * schedule.window_s), **kw)
    return None if next_at(schedule, **kw) is None else unbounded


def _ignore_retry_after(next_at: Callable[..., UnixMs | None], schedule: RetrySchedule, **kw: Any) -> UnixMs | None:
    return next_at(schedule, **kw | {"retry_after_ms": None})


def _never_over(_: object, schedule: RetrySchedule, first_attempt_at: UnixMs, now: UnixMs) -> bool:
    return False


def _none_closed(_: object, schedule: RetrySchedule, now: UnixMs) -> UnixMs:
    return 0


# -- settlements -----------------------------------------------------------------------------------------------------


async def _give_up_writing(
    settle: Callable[..., Awaitable[Settled]], store: DatabaseDeliveryStore, *args: Any, **kwargs: Any
) -> Settled:
    try:
        return await settle(store, *args, **kwargs)
    except StoreError:
        return Settled(frozenset(), {}, ())


def _lease_without_attempt(_: object, settlement: Settlement) -> tuple[str, int]:
    return settlement.claimed.delivery_id, 0


_FENCED_BY_DELIVERY = wrong(_lease_of, _lease_without_attempt)
_FENCED_BY_ID = (
    ("AND (delivery_id, attempt) IN", "AND (delivery_id, 0) IN"),
    ("RETURNING delivery_id, attempt", "RETURNING delivery_id, 0"),
)


# -- queues of endpoints ---------------------------------------------------------------------------------------------


def _ignore_hint(
    _: object, queues: EndpointQueues, endpoint_ids: Iterable[str], now: UnixMs, *, urgent: bool = False
) -> None:
    pass


def _ignore_page(_: object, queues: EndpointQueues, page: BacklogPage, now: UnixMs) -> None:
    pass


def _never_probe(_: object, queue: EndpointQueue, now: UnixMs) -> None:
    pass


def _keep_place(finished: Callable[..., None], queue: EndpointQueue, now: UnixMs, *, succeeded: bool) -> None:
    finished(queue, now, succeeded=succeeded)
    queue.in_flight += 1


def _omit_missing(
    make_due: Callable[..., int], unit: WebhooksUnit, replay: Replay, endpoint: Endpoint, events: Sequence[PastEvent]
) -> int:
    statuses = tuple(each for each in replay.statuses if each != MISSING)
    return make_due(unit, replace(replay, statuses=statuses), endpoint, events)


MUTANTS = (
    Mutant(
        "fan-out outside the transaction",
        0,
        (
            WrongFunction(DatabaseUnitOfWorkRunner.change, _fan_out_afterwards),
        ),  # generic, which the type of `wrong` cannot express
    ),
    Mutant("settled as succeeded before the send", 0, (wrong(Engine._deliver, _succeed_before_the_send),)),
    Mutant("a lease never expires", 0, (wrong(LeaseTables.expired, _no_expired_workers),)),
    Mutant(
        "a settlement is not fenced",
        1,
        (
            _FENCED_BY_DELIVERY,
            wrong_sql(SettlementTables.settle, *_FENCED_BY_ID, ("WHERE worker = ? AND", "WHERE ? <> '' AND")),
        ),
    ),
    Mutant(
        "a settlement is fenced by the worker only",
        198,
        (_FENCED_BY_DELIVERY, wrong_sql(SettlementTables.settle, *_FENCED_BY_ID)),
    ),
    Mutant(
        "a worker that was given up may still lease",
        1,
        (
            wrong_sql(
                ClaimTables.claim, ("SELECT 1 FROM workers WHERE id = ?", "SELECT 1 FROM workers WHERE id = ? OR 1 = 1")
            ),
        ),
    ),
    Mutant("a lease of a claim without a response is kept", 14, (wrong(Engine._claim, _forget_failed_claim),)),
    Mutant(
        "a commit that comes late is not waited for",
        72,
        (wrong_sql(LeaseTables.release_unknown, ("SELECT 1 FROM workers WHERE id = ?", "SELECT 1 WHERE ? <> ''")),),
    ),
    Mutant("a retry has a new event id", 0, (wrong(sign_attempt, _new_event_id),)),
    Mutant("a request whose connection ended is not repeated", 86, (wrong(AttemptRunner._is_over, _is_over),)),
    Mutant("a retry has new bytes", 0, (wrong(AttemptRunner.run, _new_bytes),)),
    Mutant("given up in silence instead of exhausted", 2, (wrong(decide, _canceled_not_exhausted),)),
    Mutant("given up at the third failure", 2, (wrong(decide, _exhausted_at_the_third),)),
    Mutant(
        "order is ignored",
        3,
        (
            wrong_sql(ClaimTables.claim, ("AND earlier.sequence < d.sequence", "AND earlier.sequence < 0")),
            wrong_sql(DeliveryTables.enqueue, ("'pending', ?", "'pending', COALESCE(?, 0)")),
        ),
    ),
    Mutant(
        "the next of a customer's is not let go",
        0,
        (
            wrong_sql(
                SettlementTables.settle,
                (
                    "UPDATE deliveries SET due_at = COALESCE(due_at, ?) WHERE",
                    "UPDATE deliveries SET due_at = COALESCE(due_at, ?) WHERE 1 = 0 AND",
                ),
            ),
        ),
    ),
    Mutant(
        "tried after the window",
        0,
        (
            wrong(RetrySchedule.next_attempt_at, _due_after_the_window),
            wrong(RetrySchedule.is_over, _never_over),
            wrong(RetrySchedule.closed_since, _none_closed),
        ),
    ),
    Mutant("the window begins anew with each attempt", 1, (wrong(ClaimTables.claim, _begin_window_now),)),
    Mutant(
        "the window begins when the event happened",
        0,
        (
            wrong_sql(
                SettlementTables.settle,
                ("first_attempt_at = v.first_attempt_at", "first_attempt_at = MIN(v.first_attempt_at, created_at)"),
            ),
        ),
    ),
    Mutant("an interrupted attempt is not written down", 0, (wrong(insert_attempts, _omit_interrupted),)),
    Mutant("an interrupted attempt is not in the counters", 0, (wrong(count_attempts, _count_no_interrupted),)),
    Mutant(
        "a rescue does not count the attempt",
        0,
        (
            wrong_sql(
                LeaseTables._interrupt,
                (
                    "SET attempts = leases.attempt, first_attempt_at = COALESCE(first_attempt_at, leases.started_at), due_at",
                    "SET due_at",
                ),
            ),
        ),
    ),
    Mutant(
        "a rescue does not count what was canceled",
        108,
        (wrong_sql(LeaseTables._interrupt, ("IN ('canceled', 'succeeded', 'exhausted')", "IN ()")),),
    ),
    Mutant(
        "a cancel is overwritten",
        41,
        (
            wrong_sql(
                SettlementTables.settle,
                ("CAST(v.id AS TEXT) AND deliveries.status = 'pending'", "CAST(v.id AS TEXT)"),
            ),
        ),
    ),
    Mutant("a retry is never due", 18, (wrong(decide, _due_never),)),
    Mutant("deliveries to endpoints without a subscription", 2, (wrong(Subscription.wants, _wants_everything),)),
    Mutant(
        "a wake is lost, and no scan follows",
        0,
        (wrong(EndpointQueues.hint, _ignore_hint), wrong(EndpointQueues.add_page, _ignore_page)),
    ),
    Mutant("an open breaker is never probed", 20, (wrong(EndpointQueue._probe, _never_probe),)),
    Mutant("a place is not given back", 3, (wrong(EndpointQueue.finished, _keep_place),)),
    Mutant(
        "a failed write of the outcome is taken for done", 0, (wrong(DatabaseDeliveryStore.settle, _give_up_writing),)
    ),
    Mutant("a lost answer is taken for a success", 1, (wrong(classify, _failure_is_success),)),
    Mutant(
        "what a receiver asks to wait is not waited for",
        25,
        (wrong(RetrySchedule.next_attempt_at, _ignore_retry_after),),
    ),
    Mutant("a replay leaves out events without a delivery", 73, (wrong(_make_due, _omit_missing),)),
)
