"""The 72 hours of a delivery that never succeeds, on a virtual clock: the real engine in the simulation."""

import asyncio
import random
import time
from collections import Counter

from bench.measurement import Finding, Goal, Scale
from bench.stage import Stage
from loyalpro.delivery.schedule import WINDOW_S
from loyalpro.delivery.states import EndpointStatus
from loyalpro.events.new_event import NewEvent
from loyalpro.events.samples import sample
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection
from loyalpro.storage.unit_of_work import Tools, UnitOfWork
from loyalpro.storage.vault import Vault
from loyalpro.webhooks.entities import Endpoint
from loyalpro.webhooks.secrets import FIRST_VERSION
from simulation.database import NoFaults, SharedDatabase, memory_folder, open_sqlite
from simulation.loop import LoopClock, VirtualLoop, pass_time
from simulation.network import Answer, Network, Outage, Receiver
from simulation.product import REAL
from simulation.profile import PACES
from simulation.run import logged
from simulation.server import Server, Site

_URL = "https://receiver.test/hook"
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_PACE = next(each for each in PACES if each.name == "days")


def window(stage: Stage, scale: Scale) -> Finding:
    """The time from the commit to `exhausted`, in several runs."""
    stage.report("72 hours")
    runs = [_run() for _ in range(scale.rounds + 1)][1:]  # the first one imports and compiles
    fastest_ms, attempts = min(took_ms for took_ms, _ in runs), runs[0][1]
    goal = Goal(
        "schedule", "72 h simulated in milliseconds", f"{fastest_ms:,.0f} ms, {attempts} attempts", fastest_ms < 1_000
    )
    times = ", ".join(f"{took_ms:,.0f}" for took_ms, _ in runs)
    return Finding([goal], _INTRO + f"Milliseconds in {len(runs)} runs: {times}. Attempts: {attempts}.\n")


_INTRO = f"""One event, one endpoint that answers every attempt with 500, until the delivery is exhausted: the program's own engine,
periodic jobs and SQL, on SQLite in memory. The backlog scan and the heartbeat, which come every second or two in production, come
every {_PACE.poll_s:,.0f} s here; the retry schedule is the real one.

"""


def _run() -> tuple[float, int]:
    began_s = time.perf_counter()
    with memory_folder() as folder, logged() as errors, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        database = open_sqlite(loop, folder, NoFaults())
        try:
            attempts = runner.run(_simulate(loop, database))
        finally:
            database.close()
    if errors:
        raise RuntimeError(errors[0])
    return (time.perf_counter() - began_s) * 1_000, attempts


async def _simulate(loop: VirtualLoop, database: SharedDatabase) -> int:
    rng = random.Random(1)
    outage = Outage(0.0, float("inf"), Answer.SERVER_ERROR)
    network = Network(loop, [Receiver(_URL, _SECRET, rng, outages=[outage])], rng)
    vault = Vault(["a key for tests of enough characters"], rng.randbytes)
    tools = Tools(LoopClock(loop), IdFactory(LoopClock(loop), rng), vault, rng.randbytes)
    site = Site(loop, database, network, vault, REAL, _PACE, Counter())
    database.run(lambda connection: _found(UnitOfWork(connection, tools)), writes=True)
    server = Server(site, "server", skew_ms=0, chance=rng, on_death=lambda: None)
    await pass_time(WINDOW_S + 2 * _PACE.poll_s)
    await server.stop()
    if database.run(_statuses, writes=False) != ["exhausted"]:
        raise RuntimeError("the delivery is not exhausted after its 72 hours")
    return len(network.log)


def _found(unit: UnitOfWork) -> None:
    account_id = unit.ids.new("acct")
    unit.accounts.insert(account_id, "Bench", unit.now)
    endpoint = Endpoint(
        id=unit.ids.new("we"),
        account_id=account_id,
        url=_URL,
        description=None,
        types=("*",),
        ordering="none",
        rate_limit=None,
        headers={},
        status=EndpointStatus.ENABLED,
        status_reason=None,
        created_at=unit.now,
        updated_at=unit.now,
    )
    unit.endpoints.insert(endpoint)
    unit.secrets.add(endpoint, FIRST_VERSION, _SECRET, unit.now, promoted=True)
    unit.outbox.emit(NewEvent(account_id, "points.earned", None, None, sample("points.earned", unit.now)))
    unit.outbox.flush()


def _statuses(connection: Connection) -> list[str]:
    return [str(status) for (status,) in connection.execute("SELECT status FROM deliveries")]
