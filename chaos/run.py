"""One run on one store: start everything, break it while it works, wait until it has recovered, and ask for the account."""

import random
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from chaos import checker, database, evidence
from chaos.checker import Verdict
from chaos.client import Client, Unknown
from chaos.faults import (
    BreakCourier,
    Change,
    Cut,
    Fault,
    FillDisk,
    Freeze,
    Kill,
    Lane,
    Outage,
    Partition,
    RestartDatabase,
    SmallDisk,
    moments,
)
from chaos.journal import Journal
from chaos.merchant import FIRST_ENDPOINTS, STEADY, Enrolment, FirstEndpoint, Merchant
from chaos.producer import Assignment, Producers
from chaos.product import API_KEY, SECRET_KEY, Nurse, Product
from chaos.proxy import Proxy
from chaos.receiver import ReceiverProcess
from chaos.workload import Operation, operations
from support.postgres import OwnCluster, embedded_binaries, system_binaries

LONG_RETRIES_S = (0.2, 0.5, 1.0, 2.0, *[3.0] * 20)
"""Together far longer than any fault: only what is refused for ever is given up."""
DELIVERY_TIMEOUT_S = 5.0
LONGER_THAN_A_LEASE_S = 16.0
_PAIRS_FOR_EACH_PURCHASE = 15.5
_AHEAD = 0.05
_LEAST_AHEAD = 20
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does. `faults`: how often each is to fire; which there are depends on the store."""

    store: str
    pairs: int
    seed: str
    faults: Mapping[str, int]
    serves: int = 1
    workers: int = 0
    customers: int = 200
    producers: int = 2
    disk_mb: int = 0
    retries_s: tuple[float, ...] = LONG_RETRIES_S
    drain_s: float = 240.0
    keep: bool = False
    endpoints: tuple[FirstEndpoint, ...] = FIRST_ENDPOINTS

    @property
    def purchases(self) -> int:
        """As many as cause that many pairs."""
        return round(self.pairs / _PAIRS_FOR_EACH_PURCHASE)

    @property
    def processes(self) -> str:
        """For the table's title."""
        return f"{self.serves} serve" + (f" + {self.workers} worker" if self.workers else "")


Watch = Callable[[float, str], None]


@dataclass
class _Site:
    """Where it happens: the database's address, the processes, and what can be broken."""

    url: str
    folder: Path
    products: list[Product] = field(default_factory=list)
    proxies: list[Proxy] = field(default_factory=list)
    cluster: OwnCluster | None = None
    clients: list[Client] = field(default_factory=list)

    def client(self, chance: random.Random) -> Client:
        """A client of all servers; `hang_up` is called for it at the end."""
        self.clients.append(Client(self.addresses, API_KEY, chance))
        return self.clients[-1]

    def hang_up(self) -> None:
        """Close what its clients hold."""
        for client in self.clients:
            client.hang_up()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the API is."""
        return tuple(each.address for each in self.products if each.command == "serve")


def run(plan: Plan, folder: Path, watch: Watch) -> Verdict:
    """The whole of it. Everything that the witnesses write lands in `folder`."""
    journal = Journal(folder / "run.jsonl", durable=True)
    journal.write("plan", asked=dict(plan.faults), retries=len(plan.retries_s), seed=plan.seed, store=plan.store)
    with ExitStack() as stack:
        receiver = ReceiverProcess(folder, plan.seed)
        stack.callback(receiver.stop)
        site = stack.enter_context(_site(plan, folder, receiver.ca_file))
        _work(plan, site, receiver, journal, watch)
        watch(1.0, "checking")
        journal.close()
        if plan.keep:
            database.export(site.url, folder)
        return judge(folder, site.url)


def judge(folder: Path, url: str) -> Verdict:
    """The account of what the witnesses wrote and the database says."""
    return checker.check(evidence.read(folder), database.read(url))


def _work(plan: Plan, site: _Site, receiver: ReceiverProcess, journal: Journal, watch: Watch) -> None:
    with ExitStack() as stack:
        stack.callback(_stop_all, site.products, journal)
        stack.callback(site.hang_up)
        for product in site.products:
            product.start()
            product.wait_until_ready(journal)
        nurse = Nurse(site.products, journal)
        nurse.start()
        stack.callback(nurse.stop)
        merchant = Merchant(site.client(random.Random(plan.seed)), receiver, journal)
        for endpoint in plan.endpoints:
            merchant.subscribe(*endpoint)
        customer_ids = merchant.enrol(plan.customers)
        crowd = _Crowd(plan, site, customer_ids, receiver)
        stack.callback(crowd.producers.stop)
        lanes = _lanes(plan, site, receiver, merchant, crowd, journal)
        for lane in lanes:
            lane.start()
            stack.callback(lane.stop)
        _see_it_through(crowd, lanes, journal, watch, plan.drain_s)
        crowd.leave(journal)
        receiver.heal()
        _drain(merchant, watch, plan.drain_s)


class _Crowd:
    """The producers, let loose bit by bit, so that there is something to break from the first minute to the last."""

    def __init__(self, plan: Plan, site: _Site, customer_ids: tuple[str, ...], receiver: ReceiverProcess) -> None:
        self._receiver = receiver
        self._base = receiver.acknowledged()["steady"]
        self._starts = _starts(operations(plan.seed, plan.purchases, customer_ids))
        self._purchases = plan.purchases
        self._most_ahead = max(_LEAST_AHEAD, plan.purchases * _AHEAD)
        self._progress = 0.0
        self._total, self._moved_s = 0, time.monotonic()
        work = Assignment(
            site.folder, site.addresses, API_KEY, plan.seed, plan.purchases, customer_ids, 0, plan.producers
        )
        self.producers = Producers([replace(work, index=n) for n in range(plan.producers)])
        self._client = site.client(random.Random(f"{plan.seed}/late"))
        self._latecomers = Enrolment(self._client, "late")

    def progress(self) -> float:
        """From 0 to 1: the share of the purchases whose events an endpoint without faults of its own has accepted."""
        return self._progress

    @property
    def stalled_s(self) -> float:
        """For how long nothing new has been accepted by any endpoint."""
        return time.monotonic() - self._moved_s

    def look(self) -> float:
        """See how far it has come, and let the producers go a little further."""
        accepted = self._receiver.acknowledged()
        if (total := sum(accepted.values())) != self._total:
            self._total, self._moved_s = total, time.monotonic()
        bought = max(0, accepted["steady"] - self._base) / 2
        self._progress = min(1.0, bought / self._purchases)
        allowed = bought + self._most_ahead
        self.producers.allow(sum(start <= allowed for start in self._starts))
        return self._progress

    def linger(self, journal: Journal) -> None:
        """Everything is bought, and not everything broken yet: enrol somebody, so that there is still something to send."""
        with suppress(Unknown):
            self._latecomers.attempt(journal)
        self._client.hang_up()  # the next one may go to another server

    def leave(self, journal: Journal) -> None:
        """Be sure of whoever was enrolled last."""
        self._latecomers.insist(journal)


def _starts(work: Sequence[Operation]) -> list[int]:
    """How many purchases stand before each operation."""
    starts, total = [], 0
    for operation in work:
        starts.append(total)
        total += len(operation.purchases)
    return starts


def _see_it_through(crowd: _Crowd, lanes: Sequence[Lane], journal: Journal, watch: Watch, most_s: float) -> None:
    """Until everything is bought and everything that was to be broken has been, or until nothing moves any more."""
    while crowd.stalled_s < most_s:
        if crowd.producers.done:
            if not any(lane.is_alive() for lane in lanes):
                return
            crowd.linger(journal)
        watch(crowd.look(), "delivering")
        time.sleep(_POLL_S)


def _drain(merchant: Merchant, watch: Watch, most_s: float) -> None:
    """Everything has healed: what is pending must come to its end by itself."""
    deadline = time.monotonic() + most_s
    while merchant.pending() and time.monotonic() < deadline:
        watch(1.0, "draining")
        time.sleep(_POLL_S)


def _stop_all(products: Sequence[Product], journal: Journal) -> None:
    for product in products:
        product.stop(journal)


# -- where it happens ------------------------------------------------------------------------------------------------


@contextmanager
def _site(plan: Plan, folder: Path, ca_file: Path) -> Iterator[_Site]:
    environment = {
        "LOYALPRO_DATA_DIR": str(folder),
        "LOYALPRO_SECRET_KEY": SECRET_KEY,
        "LOYALPRO_BOOTSTRAP_API_KEY": API_KEY,
        "LOYALPRO_EGRESS_ALLOW": "127.0.0.0/8,::1/128",
        "LOYALPRO_EGRESS_CA_FILE": str(ca_file),
        "LOYALPRO_DELIVERY_TIMEOUT": str(DELIVERY_TIMEOUT_S),
        "LOYALPRO_RETRY_SCHEDULE": ",".join(map(str, plan.retries_s)),
        "LOYALPRO_LOG_FORMAT": "json",
        "LOYALPRO_MIN_FREE_MB": "64",
    }
    where = _sqlite_site if plan.store == "sqlite" else _postgres_site
    with where(plan, folder, environment) as site:
        yield site


@contextmanager
def _sqlite_site(plan: Plan, folder: Path, environment: dict[str, str]) -> Iterator[_Site]:
    with ExitStack() as stack:
        disk = folder / "disk"
        if plan.disk_mb:
            stack.callback(SmallDisk(disk, plan.disk_mb).remove)
        else:
            disk.mkdir()
        url = f"sqlite:///{disk / 'loyalpro.db'}"
        yield _Site(url, folder, [_product("serve-1", "serve", url, folder, environment)])


@contextmanager
def _postgres_site(plan: Plan, folder: Path, environment: dict[str, str]) -> Iterator[_Site]:
    binaries = system_binaries() or embedded_binaries()
    if binaries is None:
        raise RuntimeError("No PostgreSQL was found; make setup-dev installs one.")
    cluster = OwnCluster(binaries)
    try:
        url = cluster.create_database("chaos")
        site = _Site(url, folder, cluster=cluster)
        commands = ["serve"] * plan.serves + ["worker"] * plan.workers
        for number, command in enumerate(commands, start=1):
            proxy = Proxy(cluster.port)
            site.proxies.append(proxy)
            through = url.replace(f":{cluster.port}/", f":{proxy.port}/")
            site.products.append(_product(f"{command}-{number}", command, through, folder, environment))
        yield site
    finally:
        cluster.stop()


def _product(name: str, command: str, url: str, folder: Path, environment: dict[str, str]) -> Product:
    port = _free_port()
    own = {
        "LOYALPRO_DATABASE_URL": url,
        "LOYALPRO_PORT": str(port),
        "LOYALPRO_WORKER_LISTEN": f"127.0.0.1:{port}",
    }
    return Product(name, command, environment | own, folder, port)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- what is broken --------------------------------------------------------------------------------------------------

Break = Callable[[random.Random], Fault]
_LONGER_THAN_A_REQUEST_S = DELIVERY_TIMEOUT_S + 1
_OUTAGE_S = 15.0


def _lanes(
    plan: Plan, site: _Site, receiver: ReceiverProcess, merchant: Merchant, crowd: _Crowd, journal: Journal
) -> list[Lane]:
    """Processes, the database and the merchant's side are broken independently of each other."""
    chance = random.Random(f"{plan.seed}/faults")
    planned = moments(plan.faults, chance)
    lanes = []
    for breaks in (_of_processes(site), _of_the_database(site), _of_the_merchant(receiver, merchant)):
        mine = [(at, breaks[name](random.Random(chance.random()))) for at, name in planned if name in breaks]
        lanes.append(Lane(mine, crowd.progress, journal, chance.random()))
    return lanes


def _of_processes(site: _Site) -> dict[str, Break]:
    freeze_s = LONGER_THAN_A_LEASE_S if site.cluster else _LONGER_THAN_A_REQUEST_S
    return {
        "kill": lambda chance: Kill(site.products, chance),
        "freeze": lambda chance: Freeze(site.products, chance, freeze_s),
        "courier killed": lambda chance: BreakCourier(site.products, chance, "courier killed", signal.SIGKILL),
        "courier stopped": lambda chance: BreakCourier(site.products, chance, "courier stopped", signal.SIGSTOP),
    }


def _of_the_database(site: _Site) -> dict[str, Break]:
    cluster = site.cluster
    if cluster is None:
        return {"full disk": lambda chance: _full_disk(site, chance)}
    return {
        "restart": lambda chance: RestartDatabase(cluster, chance),
        "cut after commit": lambda chance: Cut(site.proxies, chance, "cut after commit"),
        "cut in transaction": lambda chance: Cut(site.proxies, chance, "cut in transaction"),
        "partition": lambda chance: Partition(site.proxies, chance, LONGER_THAN_A_LEASE_S),
    }


def _full_disk(site: _Site, chance: random.Random) -> Fault:
    enrolment = Enrolment(site.client(chance), f"disk-{chance.random()}")
    return FillDisk(site.folder / "disk", _LONGER_THAN_A_REQUEST_S, enrolment)


def _of_the_merchant(receiver: ReceiverProcess, merchant: Merchant) -> dict[str, Break]:
    return {
        "outage": lambda _: Outage(receiver, "outage", _OUTAGE_S),
        "join": lambda _: Change("join", lambda: merchant.subscribe("joiner", STEADY)),
        "leave": lambda _: Change("leave", lambda: merchant.unsubscribe("leaver")),
        "pause": lambda _: Change("pause", lambda: merchant.pause("errors")),
    }
