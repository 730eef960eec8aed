"""One run on one store: start the processes, cause faults under load, wait until all has recovered, and check the result."""

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
    BreakSender,
    Change,
    Cut,
    Fault,
    FaultSchedule,
    FillDisk,
    Freeze,
    Kill,
    Outage,
    Partition,
    RestartDatabase,
    SmallDisk,
    fault_times,
)
from chaos.front import Front
from chaos.journal import Journal
from chaos.merchant import FIRST_ENDPOINTS, STEADY, Enrollment, FirstEndpoint, Merchant
from chaos.producer import Assignment, Producers
from chaos.product import API_KEY, SECRET_KEY, Product, Supervisor
from chaos.proxy import Proxy
from chaos.receiver import ReceiverProcess
from chaos.workload import Operation, operations
from support.postgres import OwnCluster, embedded_binaries, system_binaries

LONG_RETRIES_S = (0.2, 0.5, 1.0, 2.0, *[3.0] * 20)
"""Together far longer than any fault, so only a delivery that is always rejected is exhausted."""
DELIVERY_TIMEOUT_S = 5.0
LONGER_THAN_A_LEASE_S = 16.0
_PAIRS_FOR_EACH_PURCHASE = 15.5
_AHEAD = 0.05
_LEAST_AHEAD = 20
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a run. `faults`: how often each fault fires; the names depend on the store.

    `reload_nginx_every_s`: the receivers are behind nginx, which is reloaded at this interval; None for receivers without it.
    """

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
    reload_nginx_every_s: float | None = None

    @property
    def purchases(self) -> int:
        """How many purchases cause that many pairs."""
        return round(self.pairs / _PAIRS_FOR_EACH_PURCHASE)

    @property
    def processes(self) -> str:
        """The processes, for the title of the table."""
        return f"{self.serves} serve" + (f" + {self.workers} worker" if self.workers else "")

    @property
    def is_behind_nginx(self) -> bool:
        """Whether the receivers are behind nginx."""
        return self.reload_nginx_every_s is not None


OnProgress = Callable[[float, str], None]


@dataclass
class _Site:
    """The database, the processes, and the other things that faults break."""

    url: str
    folder: Path
    products: list[Product] = field(default_factory=list)
    proxies: list[Proxy] = field(default_factory=list)
    cluster: OwnCluster | None = None
    clients: list[Client] = field(default_factory=list)

    def client(self, rng: random.Random) -> Client:
        """A client of all servers; `close` closes it."""
        self.clients.append(Client(self.addresses, API_KEY, rng))
        return self.clients[-1]

    def close(self) -> None:
        """Close the connections of its clients."""
        for client in self.clients:
            client.close()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of the API."""
        return tuple(each.address for each in self.products if each.command == "serve")


def run(plan: Plan, folder: Path, on_progress: OnProgress) -> Verdict:
    """Run a plan and check it. All journals are written to `folder`."""
    journal = Journal(folder / "run.jsonl", durable=True)
    journal.write(
        "plan",
        asked=dict(plan.faults),
        retries=len(plan.retries_s),
        seed=plan.seed,
        store=plan.store,
        nginx=plan.is_behind_nginx,
    )
    with ExitStack() as stack:
        front = (
            stack.enter_context(Front(folder / "nginx", every_s)) if (every_s := plan.reload_nginx_every_s) else None
        )
        receiver = ReceiverProcess(folder, plan.seed, front)
        stack.callback(receiver.stop)
        site = stack.enter_context(_site(plan, folder, receiver.ca_file))
        if front is not None:
            front.keep_reloading(journal)
            stack.callback(front.stop)
        _work(plan, site, receiver, journal, on_progress)
        if front is not None:
            front.stop()
        on_progress(1.0, "checking")
        journal.close()
        if plan.keep:
            database.export(site.url, folder)
        return check_run(folder, site.url)


def check_run(folder: Path, url: str) -> Verdict:
    """Check the journals in `folder` and the database."""
    return checker.check(evidence.read(folder), database.read(url))


def _work(plan: Plan, site: _Site, receiver: ReceiverProcess, journal: Journal, on_progress: OnProgress) -> None:
    with ExitStack() as stack:
        stack.callback(_stop_all, site.products, journal)
        stack.callback(site.close)
        for product in site.products:
            product.start()
            product.wait_until_ready(journal)
        supervisor = Supervisor(site.products, journal)
        supervisor.start()
        stack.callback(supervisor.stop)
        merchant = Merchant(site.client(random.Random(plan.seed)), receiver, journal)
        for endpoint in plan.endpoints:
            merchant.subscribe(*endpoint)
        customer_ids = merchant.enroll(plan.customers)
        load = _Load(plan, site, customer_ids, receiver)
        stack.callback(load.producers.stop)
        schedules = _schedules(plan, site, receiver, merchant, load, journal)
        for schedule in schedules:
            schedule.start()
            stack.callback(schedule.stop)
        _run_load(load, schedules, journal, on_progress, plan.drain_s)
        load.finish(journal)
        receiver.heal()
        _drain(merchant, on_progress, plan.drain_s)


class _Load:
    """The producers, with a limited lead over the deliveries, so that there is load during the whole run."""

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
        self._late = Enrollment(self._client, "late")

    def progress(self) -> float:
        """From 0 to 1: the share of the purchases whose events the endpoint `steady` has acknowledged."""
        return self._progress

    @property
    def stalled_s(self) -> float:
        """The time since any endpoint acknowledged a new delivery."""
        return time.monotonic() - self._moved_s

    def look(self) -> float:
        """Update the progress, and allow the producers the next operations."""
        accepted = self._receiver.acknowledged()
        if (total := sum(accepted.values())) != self._total:
            self._total, self._moved_s = total, time.monotonic()
        bought = max(0, accepted["steady"] - self._base) / 2
        self._progress = min(1.0, bought / self._purchases)
        allowed = bought + self._most_ahead
        self.producers.allow(sum(start <= allowed for start in self._starts))
        return self._progress

    def enroll_late(self, journal: Journal) -> None:
        """Enroll one more customer: after the last purchase, the remaining faults still need something to send."""
        with suppress(Unknown):
            self._late.attempt(journal)
        self._client.close()  # so that the next request may go to another server

    def finish(self, journal: Journal) -> None:
        """Enroll one last customer, which also resolves an unknown answer."""
        self._late.insist(journal)


def _starts(work: Sequence[Operation]) -> list[int]:
    """The number of purchases before each operation."""
    starts, total = [], 0
    for operation in work:
        starts.append(total)
        total += len(operation.purchases)
    return starts


def _run_load(
    load: _Load, schedules: Sequence[FaultSchedule], journal: Journal, on_progress: OnProgress, most_s: float
) -> None:
    """Run until all purchases and all faults are done, or until no delivery has been acknowledged for `most_s`."""
    while load.stalled_s < most_s:
        if load.producers.done:
            if not any(schedule.is_alive() for schedule in schedules):
                return
            load.enroll_late(journal)
        on_progress(load.look(), "delivering")
        time.sleep(_POLL_S)


def _drain(merchant: Merchant, on_progress: OnProgress, most_s: float) -> None:
    """After the last fault: wait until no delivery is pending, for `most_s` at most."""
    deadline = time.monotonic() + most_s
    while merchant.pending() and time.monotonic() < deadline:
        on_progress(1.0, "draining")
        time.sleep(_POLL_S)


def _stop_all(products: Sequence[Product], journal: Journal) -> None:
    for product in products:
        product.stop(journal)


# -- processes and databases ------------------------------------------------------------------------------------------------


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


# -- faults --------------------------------------------------------------------------------------------------

Break = Callable[[random.Random], Fault]
_LONGER_THAN_A_REQUEST_S = DELIVERY_TIMEOUT_S + 1
_OUTAGE_S = 15.0


def _schedules(
    plan: Plan, site: _Site, receiver: ReceiverProcess, merchant: Merchant, load: _Load, journal: Journal
) -> list[FaultSchedule]:
    """Three schedules that run at the same time: faults of processes, faults of the database, changes by the merchant."""
    rng = random.Random(f"{plan.seed}/faults")
    planned = fault_times(plan.faults, rng)
    schedules = []
    for breaks in (_process_faults(site), _database_faults(site), _merchant_changes(receiver, merchant)):
        mine = [(at, breaks[name](random.Random(rng.random()))) for at, name in planned if name in breaks]
        schedules.append(FaultSchedule(mine, load.progress, journal, rng.random()))
    return schedules


def _process_faults(site: _Site) -> dict[str, Break]:
    freeze_s = LONGER_THAN_A_LEASE_S if site.cluster else _LONGER_THAN_A_REQUEST_S
    return {
        "kill": lambda rng: Kill(site.products, rng),
        "freeze": lambda rng: Freeze(site.products, rng, freeze_s),
        "sender killed": lambda rng: BreakSender(site.products, rng, "sender killed", signal.SIGKILL),
        "sender stopped": lambda rng: BreakSender(site.products, rng, "sender stopped", signal.SIGSTOP),
    }


def _database_faults(site: _Site) -> dict[str, Break]:
    cluster = site.cluster
    if cluster is None:
        return {"full disk": lambda rng: _full_disk(site, rng)}
    return {
        "restart": lambda rng: RestartDatabase(cluster, rng),
        "cut after commit": lambda rng: Cut(site.proxies, rng, "cut after commit"),
        "cut in transaction": lambda rng: Cut(site.proxies, rng, "cut in transaction"),
        "partition": lambda rng: Partition(site.proxies, rng, LONGER_THAN_A_LEASE_S),
    }


def _full_disk(site: _Site, rng: random.Random) -> Fault:
    enrollment = Enrollment(site.client(rng), f"disk-{rng.random()}")
    return FillDisk(site.folder / "disk", _LONGER_THAN_A_REQUEST_S, enrollment)


def _merchant_changes(receiver: ReceiverProcess, merchant: Merchant) -> dict[str, Break]:
    return {
        "outage": lambda _: Outage(receiver, "outage", _OUTAGE_S),
        "join": lambda _: Change("join", lambda: merchant.subscribe("joiner", STEADY)),
        "leave": lambda _: Change("leave", lambda: merchant.unsubscribe("leaver")),
        "pause": lambda _: Change("pause", lambda: merchant.pause("errors")),
    }
