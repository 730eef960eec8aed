"""One simulated run: accounts, endpoints, clients that place orders, servers that fail, and an owner of the endpoints."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from loyalpro.accounts.entities import StoredResponse
from loyalpro.delivery.states import EndpointStatus
from loyalpro.events.new_event import NewEvent
from loyalpro.events.samples import sample
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection
from loyalpro.storage.unit_of_work import Tools, UnitOfWork
from loyalpro.storage.vault import Vault
from loyalpro.webhooks.entities import Endpoint
from loyalpro.webhooks.secrets import FIRST_VERSION
from receivers.behavior import random_points
from simulation.database import RandomFaults, SharedDatabase
from simulation.loop import PROCESS, START_MS, LoopClock, VirtualLoop, pass_time
from simulation.network import Network, Sent, SimulatedReceiver
from simulation.owner import Owner, Subscriber, newest_position
from simulation.profile import Profile, draw_mix, draw_outage
from simulation.server import Server, Site

T = TypeVar("T")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TYPES = {"points.redeemed": "code", "customer.deleted": "reason"}
"""The event types of a run, and the field of each that carries the reference of its order."""
_VAULT = Vault(["a key for tests of enough characters"], random.Random(0).randbytes)


@dataclass
class Order:
    """A request that a client repeats until it is acknowledged. `reference` is a part of the event's body."""

    reference: str
    at_s: float
    account_id: str
    customer_id: str | None
    type: str
    acknowledged: bool = False


@dataclass(frozen=True)
class SendSnapshot:
    """The state of a delivery in the database at the moment a request for it was sent.

    `finished`: it was not pending. `earlier_pending`: deliveries of earlier events of the same customer to the same
    endpoint that were pending.
    """

    sent: Sent
    finished: bool
    earlier_pending: tuple[str, ...]


class World:
    """One run, from an empty database until everything is done after the last fault."""

    def __init__(self, loop: VirtualLoop, profile: Profile, database: SharedDatabase) -> None:
        self.loop = loop
        self.profile = profile
        self.database = database
        self.counted: Counter[str] = Counter()
        self.failures: list[str] = []
        self.orders: list[Order] = []
        self.subscribers: list[Subscriber] = []
        self.snapshots: list[SendSnapshot] = []
        self.network = Network(loop, [], self._rng("network"))
        self.network.on_sent = self._on_sent
        database.on_commit = self._check_leases
        self._site = Site(loop, database, self.network, _VAULT, profile.pace, self.counted)
        self._tools = Tools(
            LoopClock(loop), IdFactory(LoopClock(loop), self._rng("ids")), _VAULT, self._rng("secrets").randbytes
        )
        self._servers: dict[int, Server] = {}
        self._started: Counter[int] = Counter()
        self._fault_tasks: list[asyncio.Task[None]] = []
        self._freezing = self._rng("freezing")
        self._healed = False
        self._ending = False
        self._accounts: list[str] = []
        self._customers: list[tuple[str, str]] = []
        self.owner = Owner(
            subscribers=self.subscribers,
            change=self._change,
            add=lambda: self._subscribe(len(self.subscribers)),
            wake=self._wake,
            rng=self._rng("owner"),
            counted=self.counted,
        )

    async def run(self) -> None:
        """The whole run."""
        self._create()
        for place in range(self.profile.processes):
            self._start_server(place)
        clients = [self.loop.create_task(self._run_client(order), name=order.reference) for order in self.orders]
        self._start_faults()
        await pass_time(self.profile.heal_s)
        await self._heal()
        await self._until_done(clients)
        self._ending = True
        await asyncio.gather(*(server.stop() for server in self._servers.values() if server.is_running))

    # -- accounts, endpoints and orders ------------------------------------------------------------------------------

    def _create(self) -> None:
        """Create accounts, customers, endpoints, and the orders to be placed."""
        profile, rng = self.profile, self._rng("world")
        for _ in range(profile.accounts):
            self._accounts.append(self._open_account())
        self._customers = [(rng.choice(self._accounts), f"cus_{n}") for n in range(profile.customers)]
        for number in range(profile.endpoints):
            self._subscribe(number)
        for number in range(profile.events):
            self.orders.append(self._order(number, rng))

    def _open_account(self) -> str:
        account_id = self._tools.ids.new("acct")
        self._change(lambda unit: unit.accounts.insert(account_id, "Test", unit.now))
        return account_id

    def _order(self, number: int, rng: random.Random) -> Order:
        """A random order: some customers have more than others, and some orders have no customer."""
        weights = [1 / (rank + 1) for rank in range(len(self._customers))]
        [(account_id, customer_id)] = rng.choices(self._customers, weights)
        return Order(
            reference=f"order-{number}",
            at_s=rng.choice((0.0, rng.random())) * self.profile.span_s,
            account_id=account_id,
            customer_id=customer_id if rng.random() < 0.8 else None,
            type=rng.choice(list(TYPES)),
        )

    def _subscribe(self, number: int) -> None:
        profile, rng = self.profile, self._rng(f"endpoint {number}")
        outages = [drawn for drawn in (draw_outage(profile, rng) for _ in range(2)) if drawn]
        receiver = SimulatedReceiver(
            url=f"https://receiver-{number}.test/hook",
            secret=SECRET,
            rng=rng,
            points=random_points(rng),
            mix=draw_mix(profile, rng),
            outages=outages,
            slowest_s=rng.choice((0.01, 0.5, 5.0)),
            longest_retry_after_s=profile.longest_retry_after_s,
            endings=self._rng(f"endings {number}"),
            ended_connections=profile.ended_connections,
        )
        self._add_endpoint(
            receiver,
            account_id=rng.choice(self._accounts),
            types=rng.choice((("*",), tuple(TYPES)[:1])),
            ordering=rng.choice(("none", "customer")),
            rate_limit=rng.choice((None, None, 1, 5)),
        )

    def _add_endpoint(
        self,
        receiver: SimulatedReceiver,
        *,
        account_id: str,
        types: tuple[str, ...] = ("*",),
        ordering: str = "none",
        rate_limit: int | None = None,
    ) -> None:
        self.network.add(receiver)
        endpoint = Endpoint(
            id=self._tools.ids.new("we"),
            account_id=account_id,
            url=receiver.url,
            description=None,
            types=types,
            ordering=ordering,
            rate_limit=rate_limit,
            headers={},
            status=EndpointStatus.ENABLED,
            status_reason=None,
            created_at=START_MS,
            updated_at=START_MS,
        )
        position = self._change(partial(_insert_endpoint, endpoint=endpoint))
        self.subscribers.append(Subscriber(endpoint.id, account_id, receiver, types, ordering == "customer", position))

    # -- servers -----------------------------------------------------------------------------------------------------

    def _start_server(self, place: int) -> None:
        if self._ending:
            return
        self._started[place] += 1
        name = f"server-{place}.{self._started[place]}"
        rng = self._rng(name)
        skew_ms = rng.randint(-self.profile.skew_ms, self.profile.skew_ms)
        server = Server(self._site, name, skew_ms=skew_ms, rng=rng, on_death=lambda: self._restart_later(place, rng))
        for task in server.main_tasks:
            task.add_done_callback(partial(self._on_task_end, server))
        self._servers[place] = server

    def _restart_later(self, place: int, rng: random.Random) -> None:
        """Start a new process in its place, as a supervisor does."""
        away_s = 1.0 if self._healed else rng.random() ** 2 * self.profile.pace.lease_ttl_s * 3
        self.loop.call_later(away_s, self._start_server, place)

    def _on_task_end(self, server: Server, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failures.append(f"crashed: {server.process.name} with {task.exception()!r}")

    # -- clients -----------------------------------------------------------------------------------------------------

    async def _run_client(self, order: Order) -> None:
        """Send an order to any server until one acknowledges it, as an idempotency key allows."""
        rng = self._rng(order.reference)
        await pass_time(order.at_s)
        while not order.acknowledged:
            server = rng.choice(list(self._servers.values()))
            if server.is_running:
                work = server.runner.change(partial(_place_order, order=order))
                request = server.process.spawn(work, order.reference)
                request.add_done_callback(_retrieve_error)
                await asyncio.wait({request}, timeout=20.0)
                order.acknowledged = request.done() and not request.cancelled() and request.exception() is None
                self.counted["orders_repeated"] += not order.acknowledged
            await pass_time(rng.random() * self.profile.pace.lease_ttl_s)

    # -- faults ------------------------------------------------------------------------------------------------------

    def _start_faults(self) -> None:
        profile, rng = self.profile, self._rng("trouble")

        def crash() -> None:
            self._random_server(rng).process.kill()

        def freeze() -> None:
            self._random_server(rng).process.freeze(rng.random() * profile.longest_freeze_s)

        def stop() -> None:
            server = self._random_server(rng)
            if server.is_running:
                self._fault_tasks.append(self.loop.create_task(server.stop()))

        for every_s, what in (
            (profile.crash_every_s, crash),
            (profile.freeze_every_s, freeze),
            (profile.stop_every_s, stop),
            (profile.owner_every_s, self.owner.act),
        ):
            if every_s is not None:
                self._fault_tasks.append(self.loop.create_task(self._repeat(every_s, what, rng)))

    async def _repeat(self, every_s: float, what: Callable[[], None], rng: random.Random) -> None:
        while not self._healed:
            await pass_time(rng.expovariate(1 / every_s))
            if not self._healed:
                self.counted[what.__name__] += 1
                what()

    def _wake(self, endpoint_id: str, urgent: bool) -> None:  # noqa: FBT001 - its only flag
        """Give one server the hint that the API gives after a commit; the others find the work when they scan."""
        server = self._random_server(self._rng(f"wake {self.loop.time()}"))
        if server.is_running:
            server.engine.wake([endpoint_id], urgent=urgent)

    def _random_server(self, rng: random.Random) -> Server:
        return rng.choice(list(self._servers.values()))

    # -- the end of the faults ---------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        """End all faults: processes start again, and paused endpoints are enabled."""
        self._healed = True
        if isinstance(self.database.faults, RandomFaults):
            self.database.faults.heal()
        self.network.heal()
        for process in list(self.loop.frozen):
            self.loop.thaw(process)
        self._enable_all()

    def _enable_all(self) -> None:
        """Enable every endpoint, directly in the table, because this runs often."""
        self.database.run(
            lambda connection: connection.execute("UPDATE endpoints SET status = 'enabled' WHERE status <> 'enabled'"),
            writes=True,
        )

    async def _until_done(self, clients: list[asyncio.Task[None]]) -> None:
        """Wait until everything is done; without faults that takes `longest_s` at most."""
        end_s = self.loop.time() + self.longest_s
        await asyncio.wait(clients, timeout=self.longest_s)
        while self._pending() and self.loop.time() < end_s:
            self._enable_all()  # a 410 from before may have disabled one since
            await pass_time(self.profile.pace.poll_s)
        if self._pending() or not all(order.acknowledged for order in self.orders):
            self.failures.append(f"done: {self._pending()} are pending {self.longest_s} s after the last fault")

    @property
    def longest_s(self) -> float:
        """The longest wait between two attempts, and the time to detect lost leases and to work off what is due."""
        profile, pace = self.profile, self.profile.pace
        longest_retry_s = min(4 * 3600 * 1.15, pace.window_s) + profile.longest_retry_after_s
        skew_s = 2 * profile.skew_ms / 1_000
        return longest_retry_s + 5 * pace.lease_ttl_s + 4 * pace.poll_s + skew_s + 600

    def _pending(self) -> int:
        """How many deliveries and replays are not done."""

        def work(connection: Connection) -> int:
            [(count,)] = connection.execute(
                "SELECT (SELECT count(*) FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id"
                " WHERE d.status = 'pending' AND e.deleted_at IS NULL)"
                " + (SELECT count(*) FROM replays WHERE status = 'running')"
            )
            return int(count)

        return self.database.run(work, writes=False)

    # -- observation -------------------------------------------------------------------------------------------------

    def _on_sent(self, sent: Sent) -> None:
        """Record the state of the database while a request is sent."""

        def work(connection: Connection) -> SendSnapshot:
            [(status,)] = connection.execute("SELECT status FROM deliveries WHERE id = ?", (sent.delivery_id,))
            earlier = connection.execute(_EARLIER_PENDING, (sent.delivery_id,))
            return SendSnapshot(sent, status != "pending", tuple(id_ for (id_,) in earlier))

        self.snapshots.append(self.database.run(work, writes=False))
        self._freeze_at_send()

    def _check_leases(self) -> None:
        """After every commit: no lease belongs to a worker that is not registered, because nothing would free it soon."""
        orphaned = self.database.run(lambda connection: connection.execute(_ORPHANED_LEASES), writes=False)
        self.failures += [
            f"leases: {worker}, which is not registered, has {delivery_id}" for worker, delivery_id in orphaned
        ]

    def _freeze_at_send(self) -> None:
        """Freeze the sender for longer than its lease: another process takes over, and the late response arrives all the same."""
        process, rng = PROCESS.get(), self._freezing
        if process is not None and not self._healed and rng.random() < self.profile.freeze_at_send:
            self.counted["freeze_at_send"] += 1
            process.freeze(self.profile.pace.lease_ttl_s * rng.uniform(1.0, 3.0))

    def _change(self, work: Callable[[UnitOfWork], T]) -> T:
        """Run a transaction without any fault."""

        def transaction(connection: Connection) -> T:
            return work(UnitOfWork(connection, self._tools))

        return self.database.run(transaction, writes=True)

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{self.profile.seed}/{name}")


_ORPHANED_LEASES = "SELECT worker, delivery_id FROM leases WHERE worker NOT IN (SELECT id FROM workers) LIMIT 1"
_EARLIER_PENDING = """
SELECT earlier.id FROM deliveries mine
JOIN events now ON now.id = mine.event_id
JOIN events before ON before.customer_id = now.customer_id AND before.sequence < now.sequence
JOIN deliveries earlier ON earlier.event_id = before.id AND earlier.endpoint_id = mine.endpoint_id
WHERE mine.id = ? AND earlier.status = 'pending'
"""


def _place_order(unit: UnitOfWork, order: Order) -> None:
    """Store the order, unless it is stored already."""
    if unit.idempotency.responses(order.account_id, [order.reference], since=0):
        return
    sequence = None
    if order.customer_id is not None:
        [(sequence,)] = unit.connection.execute(
            "SELECT COALESCE(MAX(sequence), 0) + 1 FROM events WHERE customer_id = ?", (order.customer_id,)
        )
    data = sample(order.type, unit.now) | {TYPES[order.type]: order.reference}
    unit.outbox.emit(NewEvent(order.account_id, order.type, order.customer_id, sequence, data))
    unit.idempotency.store(order.account_id, {order.reference: StoredResponse(b"", 201, b"")}, unit.now)


def _insert_endpoint(unit: UnitOfWork, endpoint: Endpoint) -> int:
    unit.endpoints.insert(endpoint)
    unit.secrets.add(endpoint, FIRST_VERSION, SECRET, unit.now, promoted=True)
    return newest_position(unit)


def _retrieve_error(request: "asyncio.Task[None]") -> None:
    """Retrieve the error of a request, which its client may not wait for any more."""
    if not request.cancelled():
        request.exception()
