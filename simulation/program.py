"""The loyalty program in several simulated processes on one database: clients, sweeps, and a clock that passes months."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from functools import partial

from loyalpro.jobs.periodic_job import JobKind
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import LockTaken, Refused, StoreError
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.bulk.imports import Imports
from loyalpro.loyalty.bulk.runner import BulkJob
from loyalpro.loyalty.customers import EnrollCustomer, enroll_customer
from loyalpro.loyalty.fraud.resolution import fraud_job
from loyalpro.loyalty.program import default_program
from loyalpro.loyalty.program_changes import ChangeProgram, change_program
from loyalpro.loyalty.sweeps.schedule import loyalty_sweeps
from loyalpro.storage.connection import Connection
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, Tools, UnitOfWork
from loyalpro.storage.vault import Vault
from loyalpro.web.api.imports import ROW_FORMATS
from simulation.database import Locks, ProcessDatabase, RandomFaults, SharedDatabase
from simulation.loop import LoopClock, Process, VirtualLoop, pass_time
from simulation.program_commands import Request, Shop, draft
from simulation.program_profile import ProgramProfile
from simulation.server import quiet_scheduler, record_forever

PROGRAM_LOCKS = Locks(("cus_", "red_", "job_", "order-"), "FROM customers WHERE account_id || '' = ")
"""A transaction locks the customers that a book opens and the import that it continues, and waits for another one that uses an external id first."""
_ANSWER_S = 20.0
"""A client repeats a request that has no answer after this time."""


class ProgramServer:
    """A process with the sweeps of the program, from its start to its end. After a restart there is a new one."""

    def __init__(
        self,
        world: "ProgramWorld",
        name: str,
        *,
        skew_ms: int,
        rng: random.Random,
        on_death: Callable[[], None],
    ) -> None:
        self.process = Process(world.loop, name, lambda _: on_death())
        clock = LoopClock(world.loop, skew_ms)
        every_s = world.profile.pace.every_s
        self.runner = DatabaseUnitOfWorkRunner(
            ProcessDatabase(world.database),
            Tools(clock, IdFactory(clock, rng), world.vault, rng.randbytes),
            wake_endpoints=lambda *_, **__: None,
            wake_job=self._wake,
        )
        imports = BulkJob(self.runner, [Imports(self.runner, ROW_FORMATS)]).periodic()
        jobs = [
            *loyalty_sweeps(self.runner, clock, every_s, world.on_failed),
            fraud_job(self.runner, every_s),
            replace(imports, every_s=every_s),
        ]
        self._kinds = {job.kind for job in jobs}
        self._scheduler = quiet_scheduler(jobs, clock, record_forever)
        self.main_task = self.process.spawn(self._scheduler.run(), f"{name} jobs")

    @property
    def is_running(self) -> bool:
        """Whether it accepts requests; a frozen one does, and does not answer."""
        return not self.process.dead

    def _wake(self, kind: JobKind) -> None:
        """Wake a job of the program; other jobs, such as erasures, are not a part of the run."""
        if kind in self._kinds:
            self._scheduler.wake(kind)

    async def stop(self) -> None:
        """SIGTERM: cancel the sweeps wherever they are."""
        self.main_task.cancel()
        await asyncio.wait({self.main_task})
        self.process.kill()


class ProgramWorld:
    """One run, from an empty database until nothing is overdue after the last fault."""

    def __init__(self, loop: VirtualLoop, profile: ProgramProfile, database: SharedDatabase) -> None:
        self.loop = loop
        self.profile = profile
        self.database = database
        self.counted: Counter[str] = Counter()
        self.failures: list[str] = []
        self.vault = Vault(["a key for tests of enough characters"], self._rng("vault").randbytes)
        clock = LoopClock(loop)
        self._tools = Tools(clock, IdFactory(clock, self._rng("ids")), self.vault, self._rng("secrets").randbytes)
        self.account_id = self._tools.ids.new("acct")
        self.shop = Shop(self.account_id, profile)
        self._servers: dict[int, ProgramServer] = {}
        self._started: Counter[int] = Counter()
        self._fault_tasks: list[asyncio.Task[None]] = []
        self._healed = False
        self._ending = False

    @property
    def now(self) -> UnixMs:
        """The true time."""
        return self._tools.clock.now_ms()

    async def run(self) -> None:
        """The whole run."""
        self._create()
        for place in range(self.profile.processes):
            self._start_server(place)
        clients = self._start_clients()
        self._start_faults()
        await pass_time(self.profile.heal_s)
        self._heal()
        await self._until_answered(clients)
        await pass_time(self.sweeping_s)
        self._ending = True
        await asyncio.gather(*(server.stop() for server in self._servers.values() if server.is_running))

    @property
    def sweeping_s(self) -> float:
        """After so long without a fault, every process has swept what was due in the middle of this time or before."""
        return 3 * self.profile.pace.every_s + 4 * self.profile.skew_ms / 1_000

    def on_failed(self, kind: JobKind, id_: str, error: Exception) -> None:
        """A sweep could not change something: no fault of the database is a reason for that."""
        self.failures.append(f"sweeps: {kind.name} cannot change {id_}: {error!r}")

    # -- the account and its clients ---------------------------------------------------------------------------------

    def _create(self) -> None:
        """Open the account with its program, and enroll the first customers."""

        def work(unit: UnitOfWork) -> list[str]:
            unit.accounts.insert(self.account_id, "Test", unit.now)
            unit.programs.insert(self.account_id, default_program(unit.ids), actor="system:bootstrap", now=unit.now)
            rules = self.profile.rules
            change_program(unit, ChangeProgram(self.account_id, lambda version: draft(version, rules)))
            customers = [
                EnrollCustomer(self.account_id, f"shop-{number}", None, None, None, {}, source="api")
                for number in range(self.profile.customers)
            ]
            return [enroll_customer(unit, each).id for each in customers]

        self.shop.known.customers += self._change(work)

    def _change(self, work: Callable[[UnitOfWork], list[str]]) -> list[str]:
        """Run a transaction without any fault."""

        def transaction(connection: Connection) -> list[str]:
            unit = UnitOfWork(connection, self._tools)
            result = work(unit)
            unit.outbox.flush()
            return result

        return self.database.run(transaction, writes=True)

    def _start_clients(self) -> list[asyncio.Task[None]]:
        return [
            self.loop.create_task(self._run_client(number), name=f"client {number}")
            for number in range(self.profile.requests)
        ]

    async def _run_client(self, number: int) -> None:
        """Send a request until it is answered, sometimes twice at once, and sometimes once more later."""
        rng = self._rng(f"client {number}")
        await pass_time(self._begin_s(rng))
        request = self.shop.draw(number, self.now, rng)
        self.counted[f"command {request.kind}"] += 1
        twins = 2 if rng.random() < 0.25 else 1
        await asyncio.gather(*(self._send(request, self._rng(f"client {number}.{n}")) for n in range(twins)))
        self.shop.known.learn(request)
        await pass_time(rng.random() * 1.5 * self.profile.pace.every_s)
        if (following := self.shop.draw_next(request, rng)) is not None:
            self.counted[f"command {following.kind}"] += 1
            await self._send(following, rng)
        elif rng.random() < 0.4:
            self.counted["repeated later"] += 1
            await self._send(request, rng)

    def _begin_s(self, rng: random.Random) -> float:
        """Many requests arrive while sweeps run."""
        pace = self.profile.pace
        if rng.random() < 0.5:
            return rng.randrange(int(pace.span_s / pace.every_s)) * pace.every_s + rng.random() * 5.0
        return rng.random() * pace.span_s

    async def _send(self, request: Request, rng: random.Random) -> None:
        while not await self._is_answered(request, rng.choice(list(self._servers.values()))):
            self.counted["requests repeated"] += 1
            await pass_time(rng.random() ** 3 * self.profile.pace.every_s)

    async def _is_answered(self, request: Request, server: ProgramServer) -> bool:
        """Send a request to a process once; whether the process answered with a result or a refusal."""
        if not server.is_running:
            return False
        work = server.runner.change(request.work, actor="key:client")
        attempt = server.process.spawn(work, request.kind)
        await asyncio.wait({attempt}, timeout=_ANSWER_S)
        if not attempt.done():
            attempt.add_done_callback(_retrieve_error)
            request.in_flight = True
            return False
        if attempt.cancelled() or isinstance(attempt.exception(), StoreError | LockTaken):
            return False
        error = attempt.exception()
        if error is None:
            request.answer(attempt.result())
        elif isinstance(error, Refused):
            request.refuse(error)
        else:
            self.failures.append(f"crashed: {request.kind} with {error!r}")
        return True

    # -- processes ---------------------------------------------------------------------------------------------------

    def _start_server(self, place: int) -> None:
        if self._ending:
            return
        self._started[place] += 1
        name = f"server-{place}.{self._started[place]}"
        rng = self._rng(name)
        skew_ms = self._rng(f"skew {place}").randint(-self.profile.skew_ms, self.profile.skew_ms)
        server = ProgramServer(self, name, skew_ms=skew_ms, rng=rng, on_death=lambda: self._restart_later(place, rng))
        server.main_task.add_done_callback(partial(self._on_task_end, name))
        self._servers[place] = server

    def _restart_later(self, place: int, rng: random.Random) -> None:
        """Start a new process in its place, as a supervisor does."""
        away_s = 1.0 if self._healed else rng.random() ** 2 * self.profile.pace.every_s
        self.loop.call_later(away_s, self._start_server, place)

    def _on_task_end(self, name: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failures.append(f"crashed: {name} with {task.exception()!r}")

    def stop(self, process: Process) -> None:
        """Send SIGTERM to a process."""
        for server in self._servers.values():
            if server.process is process:
                self._fault_tasks.append(Context().run(self.loop.create_task, server.stop()))

    # -- faults ------------------------------------------------------------------------------------------------------

    def _start_faults(self) -> None:
        profile, rng = self.profile, self._rng("trouble")

        def crash() -> None:
            self._random_process(rng).kill()

        def freeze() -> None:
            self._random_process(rng).freeze(rng.random() * profile.longest_freeze_s)

        def stop() -> None:
            self.stop(self._random_process(rng))

        for every_s, what in (
            (profile.crash_every_s, crash),
            (profile.freeze_every_s, freeze),
            (profile.stop_every_s, stop),
        ):
            if every_s is not None:
                self._fault_tasks.append(self.loop.create_task(self._repeat(every_s, what, rng)))

    async def _repeat(self, every_s: float, what: Callable[[], None], rng: random.Random) -> None:
        while not self._healed:
            await pass_time(rng.expovariate(1 / every_s))
            if not self._healed:
                self.counted[what.__name__] += 1
                what()

    def _random_process(self, rng: random.Random) -> Process:
        return rng.choice(list(self._servers.values())).process

    def _heal(self) -> None:
        """End all faults. Processes that ended start again."""
        self._healed = True
        if isinstance(self.database.faults, RandomFaults):
            self.database.faults.heal()
        for process in list(self.loop.frozen):
            self.loop.thaw(process)

    async def _until_answered(self, clients: list[asyncio.Task[None]]) -> None:
        """Wait until every request is answered; without faults that takes a few intervals at most."""
        _, waiting = await asyncio.wait(clients, timeout=4 * self.profile.pace.every_s + 600)
        for client in waiting:
            self.failures.append(f"answers: {client.get_name()} has no answer")
            client.cancel()
        for client in set(clients) - waiting:
            client.result()

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{self.profile.seed}/program {name}")


def _retrieve_error(attempt: "asyncio.Task[object]") -> None:
    """Retrieve the error of an attempt, for which its client does not wait."""
    if not attempt.cancelled():
        attempt.exception()
