"""A world to run in: accounts, endpoints, clients that buy, servers that fail, and an owner who changes his mind."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from loyalpro.accounts.entities import IdempotentResult
from loyalpro.delivery.states import EndpointStatus
from loyalpro.events.new_event import NewEvent
from loyalpro.events.samples import sample
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection
from loyalpro.storage.unit_of_work import Tools, UnitOfWork
from loyalpro.storage.vault import Vault
from loyalpro.webhooks.entities import Endpoint
from loyalpro.webhooks.secrets import FIRST_VERSION
from simulation.database import RandomFaults, SharedDatabase
from simulation.loop import PROCESS, START_MS, LoopClock, VirtualLoop, pass_time
from simulation.network import Network, Outage, Receiver, Sent
from simulation.owner import Owner, Subscriber, newest_position
from simulation.product import Product
from simulation.profile import Profile, draw_noise, draw_outage
from simulation.server import Server, Site

T = TypeVar("T")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TYPES = {"points.redeemed": "code", "customer.deleted": "reason"}
"""The event types that happen here, and the field of each that can carry a mark of ours."""
_VAULT = Vault(["a key for tests of enough characters"], random.Random(0).randbytes)


@dataclass
class Order:
    """Something a client wants done once. `mark` is found again in the event's body."""

    mark: str
    at_s: float
    account_id: str
    customer_id: str | None
    type: str
    acknowledged: bool = False


@dataclass(frozen=True)
class Sighting:
    """What the database said about a delivery at the moment a request for it was made."""

    sent: Sent
    finished: bool
    earlier_pending: tuple[str, ...]


class World:
    """One run, from an empty database to the end of all trouble."""

    def __init__(self, loop: VirtualLoop, profile: Profile, product: Product, database: SharedDatabase) -> None:
        self.loop = loop
        self.profile = profile
        self.database = database
        self.counted: Counter[str] = Counter()
        self.failures: list[str] = []
        self.orders: list[Order] = []
        self.subscribers: list[Subscriber] = []
        self.sightings: list[Sighting] = []
        self.network = Network(loop, [], self._chance("network"))
        self.network.on_sent = self._saw
        database.on_commit = self._look_at_leases
        self._site = Site(loop, database, self.network, _VAULT, product, profile.pace, self.counted)
        self._tools = Tools(
            LoopClock(loop), IdFactory(LoopClock(loop), self._chance("ids")), _VAULT, self._chance("secrets").randbytes
        )
        self._servers: dict[int, Server] = {}
        self._started: Counter[int] = Counter()
        self._trouble: list[asyncio.Task[None]] = []
        self._freezing = self._chance("freezing")
        self._healed = False
        self._ending = False
        self._accounts: list[str] = []
        self._customers: list[tuple[str, str]] = []
        self.owner = Owner(
            subscribers=self.subscribers,
            change=self._change,
            add=lambda: self._subscribe(len(self.subscribers)),
            wake=self._wake,
            chance=self._chance("owner"),
            counted=self.counted,
        )

    async def play(self) -> None:
        """Everything that happens."""
        self._found()
        for place in range(self.profile.processes):
            self._start_server(place)
        clients = [self.loop.create_task(self._buy(order), name=order.mark) for order in self.orders]
        self._cause_trouble()
        await pass_time(self.profile.heal_s)
        await self._heal()
        await self._until_done(clients)
        self._ending = True
        await asyncio.gather(*(server.stop() for server in self._servers.values() if server.serves))

    # -- before it begins --------------------------------------------------------------------------------------------

    def _found(self) -> None:
        """Accounts, customers, endpoints, and what is going to happen."""
        profile, chance = self.profile, self._chance("world")
        for _ in range(profile.accounts):
            self._accounts.append(self._open_account())
        self._customers = [(chance.choice(self._accounts), f"cus_{n}") for n in range(profile.customers)]
        for number in range(profile.endpoints):
            self._subscribe(number)
        for number in range(profile.events):
            self.orders.append(self._order(number, chance))

    def _open_account(self) -> str:
        account_id = self._tools.ids.new("acct")
        self._change(lambda unit: unit.accounts.insert(account_id, "Test", unit.now))
        return account_id

    def _order(self, number: int, chance: random.Random) -> Order:
        """Some customers are busier than others, and some events have none."""
        weights = [1 / (rank + 1) for rank in range(len(self._customers))]
        [(account_id, customer_id)] = chance.choices(self._customers, weights)
        return Order(
            mark=f"order-{number}",
            at_s=chance.choice((0.0, chance.random())) * self.profile.span_s,
            account_id=account_id,
            customer_id=customer_id if chance.random() < 0.8 else None,
            type=chance.choice(list(TYPES)),
        )

    def _subscribe(self, number: int) -> None:
        profile, chance = self.profile, self._chance(f"endpoint {number}")
        outages = [Outage(*drawn) for drawn in (draw_outage(profile, chance) for _ in range(2)) if drawn]
        receiver = Receiver(
            url=f"https://receiver-{number}.test/hook",
            secret=SECRET,
            chance=chance,
            noise=draw_noise(profile, chance),
            outages=outages,
            slowest_s=chance.choice((0.01, 0.5, 5.0)),
            longest_retry_after_s=profile.longest_retry_after_s,
        )
        self._add_endpoint(
            receiver,
            account_id=chance.choice(self._accounts),
            types=chance.choice((("*",), tuple(TYPES)[:1])),
            ordering=chance.choice(("none", "customer")),
            rate_limit=chance.choice((None, None, 1, 5)),
        )

    def _add_endpoint(
        self,
        receiver: Receiver,
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
        chance = self._chance(name)
        skew_ms = chance.randint(-self.profile.skew_ms, self.profile.skew_ms)
        server = Server(self._site, name, skew_ms=skew_ms, chance=chance, on_death=lambda: self._died(place, chance))
        for main in server.mains:
            main.add_done_callback(partial(self._ended, server))
        self._servers[place] = server

    def _died(self, place: int, chance: random.Random) -> None:
        """Somebody starts it again."""
        away_s = 1.0 if self._healed else chance.random() ** 2 * self.profile.pace.lease_ttl_s * 3
        self.loop.call_later(away_s, self._start_server, place)

    def _ended(self, server: Server, main: asyncio.Task[None]) -> None:
        if not main.cancelled() and main.exception() is not None:
            self.failures.append(f"broke: {server.process.name} with {main.exception()!r}")

    # -- clients -----------------------------------------------------------------------------------------------------

    async def _buy(self, order: Order) -> None:
        """Ask until somebody says that it is done, as an idempotency key allows."""
        chance = self._chance(order.mark)
        await pass_time(order.at_s)
        while not order.acknowledged:
            server = chance.choice(list(self._servers.values()))
            if server.serves:
                work = server.runner.change(partial(_place_order, order=order))
                request = server.process.spawn(work, order.mark)
                request.add_done_callback(_look_at)
                await asyncio.wait({request}, timeout=20.0)
                order.acknowledged = request.done() and not request.cancelled() and request.exception() is None
                self.counted["orders_repeated"] += not order.acknowledged
            await pass_time(chance.random() * self.profile.pace.lease_ttl_s)

    # -- trouble -----------------------------------------------------------------------------------------------------

    def _cause_trouble(self) -> None:
        profile, chance = self.profile, self._chance("trouble")

        def crash() -> None:
            self._anyone(chance).process.kill()

        def freeze() -> None:
            self._anyone(chance).process.freeze(chance.random() * profile.longest_freeze_s)

        def stop() -> None:
            server = self._anyone(chance)
            if server.serves:
                self._trouble.append(self.loop.create_task(server.stop()))

        for every_s, what in (
            (profile.crash_every_s, crash),
            (profile.freeze_every_s, freeze),
            (profile.stop_every_s, stop),
            (profile.owner_every_s, self.owner.meddle),
        ):
            if every_s is not None:
                self._trouble.append(self.loop.create_task(self._again_and_again(every_s, what, chance)))

    async def _again_and_again(self, every_s: float, what: Callable[[], None], chance: random.Random) -> None:
        while not self._healed:
            await pass_time(chance.expovariate(1 / every_s))
            if not self._healed:
                self.counted[what.__name__] += 1
                what()

    def _wake(self, endpoint_id: str, urgent: bool) -> None:  # noqa: FBT001 - the one flag that it has
        """The process that was asked tells its own engine; the others find out by themselves."""
        server = self._anyone(self._chance(f"wake {self.loop.time()}"))
        if server.serves:
            server.engine.wake([endpoint_id], urgent=urgent)

    def _anyone(self, chance: random.Random) -> Server:
        return chance.choice(list(self._servers.values()))

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        """No more faults: whoever is down comes back, whoever is paused is enabled."""
        self._healed = True
        if isinstance(self.database.faults, RandomFaults):
            self.database.faults.heal()
        self.network.heal()
        for process in list(self.loop.frozen):
            self.loop.thaw(process)
        self._enable_all()

    def _enable_all(self) -> None:
        """Straight into the table: it is asked for often, and nobody looks."""
        self.database.run(
            lambda connection: connection.execute("UPDATE endpoints SET status = 'enabled' WHERE status <> 'enabled'"),
            writes=True,
        )

    async def _until_done(self, clients: list[asyncio.Task[None]]) -> None:
        """Healed, all is done within a time that can be told beforehand."""
        end_s = self.loop.time() + self.longest_s
        await asyncio.wait(clients, timeout=self.longest_s)
        while self._pending() and self.loop.time() < end_s:
            self._enable_all()  # a 410 from before may have been written down since
            await pass_time(self.profile.pace.poll_s)
        if self._pending() or not all(order.acknowledged for order in self.orders):
            self.failures.append(f"done: {self._pending()} are pending after {self.longest_s} s without any fault")

    @property
    def longest_s(self) -> float:
        """The longest wait between two attempts, and what it takes to notice and to catch up."""
        profile, pace = self.profile, self.profile.pace
        longest_retry_s = min(4 * 3600 * 1.15, pace.window_s) + profile.longest_retry_after_s
        skew_s = 2 * profile.skew_ms / 1_000
        return longest_retry_s + 5 * pace.lease_ttl_s + 4 * pace.poll_s + skew_s + 600

    def _pending(self) -> int:
        """Deliveries and replays that are not done."""

        def work(connection: Connection) -> int:
            [(count,)] = connection.execute(
                "SELECT (SELECT count(*) FROM deliveries d JOIN endpoints e ON e.id = d.endpoint_id"
                " WHERE d.status = 'pending' AND e.deleted_at IS NULL)"
                " + (SELECT count(*) FROM replays WHERE status = 'running')"
            )
            return int(count)

        return self.database.run(work, writes=False)

    # -- looking on --------------------------------------------------------------------------------------------------

    def _saw(self, sent: Sent) -> None:
        """Note what the database says while a request leaves."""

        def work(connection: Connection) -> Sighting:
            [(status,)] = connection.execute("SELECT status FROM deliveries WHERE id = ?", (sent.delivery_id,))
            earlier = connection.execute(_EARLIER_PENDING, (sent.delivery_id,))
            return Sighting(sent, status != "pending", tuple(id_ for (id_,) in earlier))

        self.sightings.append(self.database.run(work, writes=False))
        self._freeze_sender()

    def _look_at_leases(self) -> None:
        """Nobody leases anything who has been given up: it would stay leased until a sweep of last resort."""
        strays = self.database.run(lambda connection: connection.execute(_STRAYS), writes=False)
        self.failures += [f"leases: {worker}, who is not known, has {delivery_id}" for worker, delivery_id in strays]

    def _freeze_sender(self) -> None:
        """Somebody else takes over, and the answer of the late one comes back all the same."""
        process, chance = PROCESS.get(), self._freezing
        if process is not None and not self._healed and chance.random() < self.profile.freeze_sending:
            self.counted["freeze_sending"] += 1
            process.freeze(self.profile.pace.lease_ttl_s * chance.uniform(1.0, 3.0))

    def _change(self, work: Callable[[UnitOfWork], T]) -> T:
        """A change from outside, that always works."""

        def transaction(connection: Connection) -> T:
            return work(UnitOfWork(connection, self._tools))

        return self.database.run(transaction, writes=True)

    def _chance(self, name: str) -> random.Random:
        return random.Random(f"{self.profile.seed}/{name}")


_STRAYS = "SELECT worker, delivery_id FROM leases WHERE worker NOT IN (SELECT id FROM workers) LIMIT 1"
_EARLIER_PENDING = """
SELECT earlier.id FROM deliveries mine
JOIN events now ON now.id = mine.event_id
JOIN events before ON before.customer_id = now.customer_id AND before.sequence < now.sequence
JOIN deliveries earlier ON earlier.event_id = before.id AND earlier.endpoint_id = mine.endpoint_id
WHERE mine.id = ? AND earlier.status = 'pending'
"""


def _place_order(unit: UnitOfWork, order: Order) -> None:
    """Once for each mark, however often it is asked for."""
    if unit.idempotency.results(order.account_id, [order.mark], since=0):
        return
    sequence = None
    if order.customer_id is not None:
        [(sequence,)] = unit.connection.execute(
            "SELECT COALESCE(MAX(sequence), 0) + 1 FROM events WHERE customer_id = ?", (order.customer_id,)
        )
    data = sample(order.type, unit.now) | {TYPES[order.type]: order.mark}
    unit.outbox.emit(NewEvent(order.account_id, order.type, order.customer_id, sequence, data))
    unit.idempotency.store(order.account_id, {order.mark: IdempotentResult(b"", 201, b"")}, unit.now)


def _insert_endpoint(unit: UnitOfWork, endpoint: Endpoint) -> int:
    unit.endpoints.insert(endpoint)
    unit.secrets.add(endpoint, FIRST_VERSION, SECRET, unit.now, promoted=True)
    return newest_position(unit)


def _look_at(request: "asyncio.Task[None]") -> None:
    """Whoever asked may have given up: nobody else would look at its error."""
    if not request.cancelled():
        request.exception()
