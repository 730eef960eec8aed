"""A stage for tests of the engine: servers, endpoints and receivers on a virtual clock, on which days pass at once."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, Response, SendResult, Timings
from loyalpro.delivery.endpoint_queues import Bounds
from loyalpro.delivery.engine import Engine, EngineSettings
from loyalpro.delivery.lag import WaitsFor
from loyalpro.delivery.maintenance import WINDOWS, delivery_jobs
from loyalpro.delivery.settlement import Settlement
from loyalpro.delivery.states import EndpointStatus
from loyalpro.delivery.worker_registration import LeaseTimes
from loyalpro.events.new_event import NewEvent
from loyalpro.events.samples import sample
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, Tools, UnitOfWork
from loyalpro.storage.vault import Vault
from loyalpro.transport.request import sign_attempt
from loyalpro.webhooks.entities import Delivery, DeliveryFilter, Endpoint, PastAttempt
from loyalpro.webhooks.replays import ReplayJob
from simulation.database import NoFaults, ProcessDatabase, SharedDatabase, memory_folder, open_sqlite
from simulation.loop import START_MS, LoopClock, Process, VirtualLoop, pass_time, stop_if_dead
from simulation.run import logged
from simulation.server import quiet_scheduler
from support.units import insert_endpoint

T = TypeVar("T")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOUR = 3600.0
DAY = 24 * HOUR
SECONDS = EngineSettings()
HOURS = EngineSettings(poll_s=600.0, leases=LeaseTimes(ttl_s=2400.0, renew_s=600.0))
"""For tests that span days: a scan every ten minutes is often enough for them."""
_NO_TIMINGS = Timings(None, None, None, None, 1.0)


@dataclass(frozen=True)
class Hit:
    """One request as its receiver got it. `mark` identifies the event."""

    at_s: float
    mark: str
    attempt: int
    headers: dict[str, str]
    body: bytes
    server: str


@dataclass(frozen=True)
class Reply:
    """The response of a receiver, and the time that it takes; a connection that `ends` brings none."""

    status: int = 200
    retry_after_s: int | None = None
    wait_s: float = 0.01
    ends: bool = False


ENDS = Reply(ends=True)


@dataclass
class Receiver:
    """One endpoint and its receiver, which answers each request with what `answer` returns."""

    endpoint_id: str
    account_id: str
    url: str
    answer: Callable[[Hit], Reply] = lambda _: Reply()
    hits: list[Hit] = field(default_factory=list)

    @property
    def marks(self) -> list[str]:
        """The marks of the events in the order of the requests."""
        return [hit.mark for hit in self.hits]


class _NoMetrics:
    def attempted(self, outcome: OutcomeCode, total_ms: float) -> None: ...

    def fenced(self) -> None: ...

    def settled(self, settlement: Settlement) -> None: ...

    def oldest_due(self, due_at: Mapping[WaitsFor, UnixMs]) -> None: ...

    def in_flight(self, count: int) -> None: ...


class _Sender:
    """Satisfies `Sender`."""

    def __init__(self, stage: "Stage", server: str) -> None:
        self._stage = stage
        self._server = server

    async def send(self, request: OutgoingRequest) -> SendResult:
        stop_if_dead()
        receiver = self._stage.receivers[request.url]
        headers = dict(request.headers)
        mark = json.loads(request.body)["data"]["code"]
        number = int(headers["X-LoyalPro-Attempt"])
        hit = Hit(self._stage.now_s, mark, number, headers, request.body, self._server)
        receiver.hits.append(hit)
        reply = receiver.answer(hit)
        await pass_time(min(reply.wait_s, request.timeout_s))
        if reply.wait_s > request.timeout_s:
            return SendResult(None, OutcomeCode.TIMEOUT, "", None, _NO_TIMINGS)
        if reply.ends:
            return SendResult(None, OutcomeCode.CONNECTION_LOST, "", None, _NO_TIMINGS, repeatable=True)
        asked = () if reply.retry_after_s is None else (("Retry-After", str(reply.retry_after_s)),)
        return SendResult(Response(reply.status, asked, b"", truncated=False), None, "", None, _NO_TIMINGS)


class Stage:
    """One database, and the servers and receivers of one test. `now_s` counts from its beginning."""

    def __init__(self, loop: VirtualLoop, database: SharedDatabase, settings: EngineSettings) -> None:
        self._loop = loop
        self._database = database
        self._settings = settings
        self._clock = LoopClock(loop)
        self._vault = Vault(["a key for tests of enough characters"], random.Random(0).randbytes)
        self._ids = IdFactory(self._clock, random.Random(1))
        self._tools = Tools(self._clock, self._ids, self._vault, random.Random(2).randbytes)
        self._engines: dict[Process, Engine] = {}
        self._sequences: dict[str, int] = {}
        self.receivers: dict[str, Receiver] = {}

    @property
    def now_s(self) -> float:
        return self._loop.time()

    def server(self, name: str = "server") -> Process:
        """Start a process with an engine and the periodic jobs."""
        process, database = Process(self._loop, name, self._died), ProcessDatabase(self._database)
        ids = IdFactory(self._clock, random.Random(name))
        engine = Engine(
            store=DatabaseDeliveryStore(database, self._vault, self._clock, ids),
            sender=_Sender(self, name),
            sign=sign_attempt,
            clock=self._clock,
            rng=random.Random(name),
            new_worker_id=lambda: ids.new("wrk"),
            metrics=_NoMetrics(),
            settings=self._settings,
        )
        tools = Tools(self._clock, ids, self._vault, random.Random(name).randbytes)
        runner = DatabaseUnitOfWorkRunner(database, tools, wake_endpoints=engine.wake, wake_job=lambda _: None)
        windows = [
            each for each in delivery_jobs(runner, self._settings.schedule, interval_s=60) if each.kind is WINDOWS
        ]
        jobs = [replace(each, every_s=self._settings.poll_s) for each in [*windows, ReplayJob(runner).periodic()]]
        process.spawn(engine.run(), f"{name} engine")
        process.spawn(quiet_scheduler(jobs, self._clock).run(), f"{name} jobs")
        self._engines[process] = engine
        return process

    def _died(self, process: Process) -> None:
        del self._engines[process]

    def account(self) -> str:
        account_id = self._ids.new("acct")
        self.change(lambda unit: unit.accounts.insert(account_id, "Test", unit.now))
        return account_id

    def endpoint(
        self,
        answer: Callable[[Hit], Reply] = lambda _: Reply(),
        *,
        account_id: str | None = None,
        ordering: str = "none",
        rate_limit: int | None = None,
    ) -> Receiver:
        """Make an endpoint for all events of its account."""
        owner = account_id or self.account()
        url = f"https://receiver-{len(self.receivers)}.test/hook"
        made = Endpoint(
            id=self._ids.new("we"),
            account_id=owner,
            url=url,
            description=None,
            types=("*",),
            ordering=ordering,
            rate_limit=rate_limit,
            headers={},
            status=EndpointStatus.ENABLED,
            status_reason=None,
            created_at=START_MS,
            updated_at=START_MS,
        )
        self.change(lambda unit: insert_endpoint(unit, made, SECRET))
        self.receivers[url] = Receiver(made.id, owner, url, answer)
        return self.receivers[url]

    def happen(self, receiver: Receiver, *marks: str, customer_id: str | None = None) -> None:
        """Commit an event for each mark, all of `customer_id` if it is given."""

        def work(unit: UnitOfWork) -> None:
            for mark in marks:
                sequence = None
                if customer_id is not None:
                    sequence = self._sequences[customer_id] = self._sequences.get(customer_id, 0) + 1
                data = sample("points.redeemed", unit.now) | {"code": mark}
                unit.outbox.emit(NewEvent(receiver.account_id, "points.redeemed", customer_id, sequence, data))

        self.change(work)

    def change(self, work: Callable[[UnitOfWork], T]) -> T:
        """Run a transaction as the API does, and wake all engines for its new deliveries."""

        def transaction(connection: Connection) -> tuple[T, frozenset[str]]:
            unit = UnitOfWork(connection, self._tools)
            return work(unit), unit.outbox.flush()

        result, endpoint_ids = self._database.run(transaction, writes=True)
        for engine in self._engines.values():
            engine.wake(endpoint_ids)
        return result

    def set_status(self, receiver: Receiver, status: EndpointStatus) -> None:
        """Change the status of the endpoint as `PATCH` does."""

        def work(unit: UnitOfWork) -> None:
            before = unit.endpoints.get(receiver.account_id, receiver.endpoint_id)
            assert before is not None
            unit.endpoints.update(replace(before, status=status, status_reason=None))
            if status is EndpointStatus.ENABLED:
                unit.health.forget(receiver.endpoint_id, unit.now, recovering=True)

        self.change(work)
        for engine in self._engines.values():
            engine.wake([receiver.endpoint_id])

    def status(self, receiver: Receiver) -> tuple[EndpointStatus, str | None]:
        endpoint = self.change(lambda unit: unit.endpoints.get(receiver.account_id, receiver.endpoint_id))
        assert endpoint is not None
        return endpoint.status, endpoint.status_reason

    def deliveries(self, receiver: Receiver) -> list[Delivery]:
        """Oldest first."""
        owner, endpoint_id = receiver.account_id, receiver.endpoint_id
        found = self.change(
            lambda unit: unit.deliveries.list_before(owner, None, 1_000, DeliveryFilter(endpoint_id=endpoint_id))
        )
        return found[::-1]

    def attempts(self, receiver: Receiver) -> list[PastAttempt]:
        """The attempts of all deliveries, those of the oldest delivery first."""
        ids = [each.id for each in self.deliveries(receiver)]
        return self.change(lambda unit: [attempt for id_ in ids for attempt in unit.deliveries.attempts(id_)])

    def statuses(self, receiver: Receiver) -> set[str]:
        return {each.status.value for each in self.deliveries(receiver)}

    def notices(self) -> list[tuple[str, float]]:
        """Return the kinds of all notices, and when they were written, in days."""
        rows = self.change(lambda unit: unit.connection.execute("SELECT kind, created_at FROM notices ORDER BY id"))
        return [(kind, (at - START_MS) / 1_000 / DAY) for kind, at in rows]

    async def until(self, condition: Callable[[], bool], longest_s: float = 600.0) -> None:
        """Let time pass until the condition holds."""
        end_s = self.now_s + longest_s
        while not condition():
            assert self.now_s < end_s, f"not within {longest_s} s"
            await pass_time(longest_s / 6_000)


class SlowStore(NoFaults):
    """Each call of the database takes `latency_s` there and `latency_s` back."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s

    def latency_s(self) -> float:
        return self._latency_s


def play(
    story: Callable[[Stage], Awaitable[None]],
    settings: EngineSettings = SECONDS,
    faults: NoFaults | None = None,
    bounds: Bounds | None = None,
    expected_errors: Sequence[str] = (),
) -> None:
    """Run a test from its beginning to its end. Only `expected_errors` may be logged as errors."""
    chosen = replace(settings, bounds=bounds or settings.bounds)
    with memory_folder() as folder, logged() as errors, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        _play(runner, folder, story, chosen, faults or NoFaults())
    assert [error for error in errors if not any(each in error for each in expected_errors)] == []


def _play(
    runner: asyncio.Runner,
    folder: Path,
    story: Callable[[Stage], Awaitable[None]],
    settings: EngineSettings,
    faults: NoFaults,
) -> None:
    loop = runner.get_loop()
    assert isinstance(loop, VirtualLoop)
    database = open_sqlite(loop, folder, faults)
    stage = Stage(loop, database, settings)

    async def main() -> None:
        await story(stage)
        for process in list(stage._engines):
            process.kill()
        await pass_time(1.0)

    try:
        runner.run(main())
    finally:
        database.close()
