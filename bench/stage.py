"""The databases, servers and receivers of one measurement. All of them end with it, also after an error."""

import itertools
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from bench.past import Past
from bench.receiver import Receiver
from bench.server import API_KEY, SECRET_KEY, Finished, Server, Worker, cpu_s, run_command
from loyalpro.cli.demo.certificates import issue
from loyalpro.kernel.clock import Clock, SystemClock
from support.postgres import Cluster, OwnCluster

DOMAIN = "bench.example"
"""The receivers have a certificate for every name in it."""


class Machine:
    """Shared by all measurements of a run: certificates, and a PostgreSQL that starts at its first use."""

    def __init__(self) -> None:
        self._ends = ExitStack()
        self.folder = Path(self._ends.enter_context(tempfile.TemporaryDirectory(prefix="loyalpro-bench-")))
        os.environ["PYTHONPYCACHEPREFIX"] = str(self.folder / "compiled")  # only the first start compiles
        self.certificates = issue(self.folder, SystemClock(), [f"*.{DOMAIN}"])
        self.numbers = itertools.count(1)
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        """The PostgreSQL server, on the same disk as SQLite."""
        if self._cluster is None:
            self._cluster = Cluster.start(Path(tempfile.gettempdir()))
            self._ends.callback(self._cluster.stop)
        return self._cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()


class Report(Protocol):
    """Shows a line of progress. `share`: how much of the measurement is done, of 1."""

    def __call__(self, text: str, share: float = 0.0) -> None: ...


class Stage:
    """The resources of one measurement."""

    def __init__(self, machine: Machine, stores: Sequence[str], report: Report) -> None:
        self.stores = stores
        self.report = report
        self._machine = machine
        self._ends = ExitStack()
        self._folder = machine.folder / f"stage-{next(machine.numbers)}"
        self._folder.mkdir()

    @property
    def folder(self) -> Path:
        """A folder for files of the measurement."""
        return self._folder

    @property
    def ca_file(self) -> str:
        """The file with the certificate authority of the receivers."""
        return str(self._machine.certificates.ca_file)

    def database(self, store: str) -> str:
        """The URL of an empty database."""
        if store == "sqlite":
            return f"sqlite:///{self._folder / f'{next(self._machine.numbers)}.db'}"
        cluster = self._machine.cluster
        url = cluster.create_database("bench")
        self._ends.callback(cluster.drop_database, url)
        return url

    def past(self, url: str, clock: Clock | None = None) -> Past:
        """A writer for a database that no server has open."""
        return Past(url, self._folder, clock)

    def receiver(self, *, answer_after_s: float | None = 0, remembers: bool = True, ports: int = 1) -> Receiver:
        """Start a receiver."""
        files = self._machine.certificates
        receiver = Receiver(
            str(files.chain_file),
            str(files.key_file),
            answer_after_s=answer_after_s,
            remembers=remembers,
            ports=ports,
        )
        self._ends.callback(receiver.stop)
        return receiver

    def serve(self, url: str, *, dns_servers: str = "", clock_ahead_ms: int = 0) -> Server:
        """Start a `loyalpro serve`."""
        environment = self._environment(url) | {"LOYALPRO_DNS_SERVERS": dns_servers}
        server = Server(environment, self._log(), clock_ahead_ms)
        self._ends.callback(server.kill)
        return server

    def work(self, url: str) -> Worker:
        """Start a `loyalpro worker`."""
        worker = Worker(self._environment(url), self._log())
        self._ends.callback(worker.kill)
        return worker

    def run(self, url: str, *arguments: str) -> Finished:
        """Run a `loyalpro` command on a database."""
        return run_command(arguments, self._environment(url), self._log())

    def call(self, server: Server, *arguments: str) -> Finished:
        """Run a `loyalpro` command that calls a server."""
        return run_command(arguments, {"LOYALPRO_SERVER": server.address, "LOYALPRO_API_KEY": API_KEY}, self._log())

    def database_cpu_s(self) -> float | None:
        """CPU seconds that PostgreSQL has used so far; None when it was not started by this run."""
        cluster = self._machine.cluster
        if not isinstance(cluster, OwnCluster):
            return None
        return cpu_s(int((cluster.data / "postmaster.pid").read_text().split()[0]))

    def _environment(self, url: str) -> dict[str, str]:
        return {
            "LOYALPRO_DATABASE_URL": url,
            "LOYALPRO_DATA_DIR": str(self._folder),
            "LOYALPRO_SECRET_KEY": SECRET_KEY,
            "LOYALPRO_BOOTSTRAP_API_KEY": API_KEY,
            "LOYALPRO_EGRESS_ALLOW": "127.0.0.0/8,::1/128",
            "LOYALPRO_EGRESS_CA_FILE": self.ca_file,
            "LOYALPRO_LOG_FORMAT": "json",
        }

    def _log(self) -> Path:
        return self._folder / f"{next(self._machine.numbers)}.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()
