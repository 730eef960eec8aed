"""A start that fails: every command says why, in one line that says what to do, and exits with status 1."""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw
import psycopg
import pytest

from loyalpro.app import Application
from loyalpro.cli import listener
from loyalpro.settings import Settings
from support.commands import Commands, Finished
from support.databases import Databases
from support.server import Server
from support.small_disk import fill, on_a_small_disk, small_disk

KEY = "a key for tests of enough characters"
ENDPOINT = {"url": "https://127.0.0.1/hook", "events": ["*"]}
SQLITE = ("serve", "migrate", "demo")
FILE = ("serve", "migrate")
POSTGRES = ("serve", "worker", "migrate", "keys list")
ALL = ("serve", "worker", "migrate", "demo", "keys list", "accounts list", "backup copy.db")
CLIENTS = ("endpoints list", "events list", "deliveries show dlv_1", "deliveries tail")
Prepare = Callable[[Path, Databases], dict[str, str]]


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    started = Commands()
    yield started
    started.stop()


def at(folder: Path) -> dict[str, str]:
    """The variables of a server with this data folder."""
    return {"LOYALPRO_DATA_DIR": str(folder), "LOYALPRO_PORT": "0"}


def one_line(finished: Finished) -> str:
    """The only line that a failed command prints."""
    assert (finished.status, finished.stdout) == (1, ""), finished
    [line] = finished.stderr.splitlines()
    assert line.startswith("loyalpro: ")
    return line


def last_line(finished: Finished) -> str:
    """The last line of a failed command, which may log and show progress before."""
    assert finished.status == 1, finished
    assert "Traceback" not in finished.stderr
    return finished.stderr.splitlines()[-1]


# -- the table: what is wrong, in which commands, and what the line says -------------------------------------------------


@dataclass(frozen=True)
class Case:
    name: str
    commands: tuple[str, ...]
    says: str
    prepare: Prepare
    privileged: bool = True


CASES: list[Case] = []


def wrong(name: str, commands: tuple[str, ...], says: str, *, privileged: bool = True) -> Callable[[Prepare], Prepare]:
    def add(prepare: Prepare) -> Prepare:
        CASES.append(Case(name, commands, says, prepare, privileged))
        return prepare

    return add


def setting(name: str, value: str, says: str, commands: tuple[str, ...] = ("serve",)) -> None:
    CASES.append(
        Case(f"{name}={value!r}", commands, rf"LOYALPRO_{name}: .*{says}", lambda *_: {f"LOYALPRO_{name}": value})
    )


setting("PORT", "x", "takes a whole number", ALL)
setting("PORT", "70000", "takes at most 65535")
setting("LOG_FORMAT", "xml", "takes one of auto, json, console")
setting("EGRESS_ALLOW", "10.0.0.1/8", r"takes networks such as 10\.0\.0\.0/8", ALL)
setting("EGRESS_ALLOW", "10.0.0.0/8;::1/128", "separated by commas")
setting("RETRY_SCHEDULE", "5;60", "takes seconds")
setting("RETRY_SCHEDULE", "nan", "takes seconds")
setting("RETRY_SCHEDULE", "300000", r"at most 72 hours")
setting("DELIVERY_TIMEOUT", "31", "takes at most 30")
setting("SWEEP_INTERVAL", "inf", "takes a number")
setting("RETENTION_DAYS", "7", "takes at least 30")
setting("STRICT", "perhaps", "takes 1 or 0")
setting("BOOTSTRAP_API_KEY", "lp_x", "takes a key that starts with lp_")
setting("BOOTSTRAP_API_KEY", "lp_clé_de_plus_de_seize_lettres", "takes a key that starts with lp_")
setting("DATABASE_URL", "mysql://root@host/db", "takes sqlite:///path or postgresql://", ALL)
setting("DATABASE_URL", "sqlite://loyalpro.db", "takes sqlite:///path")
setting("DATABASE_URL", "sqlite:///", "the path of a file")
setting("DATABASE_URL", "sqlite:///:memory:", "a database in memory is not supported")
setting("DATABASE_URL", "sqlite:///a.db?mode=ro", "no options")
setting("DATABASE_URL", "sqlite:///~/a.db", "without ~")
setting("DATABASE_URL", '"sqlite:///a.db"', "is in quotes")
setting("DATA_DIR", "'/var/lib/loyalpro'", "is in quotes")
setting("DATA_DIR", "~nobody-of-this-name/data", "starts with ~")
setting("DATA_DIR", "\udcff", "is not UTF-8 text")
setting("SECRET_KEY", "\udcff" * 20, "is not UTF-8 text")
setting("WORKER_LISTEN", "9090", "takes host:port")
setting("PUBLIC_URL", "loyalty.example.com", "takes the address of the dashboard without a path")
setting("PUBLIC_URL", "https://loyalty.example.com/app", "without a path")
setting("PUBLIC_URL", "ftp://loyalty.example.com", "without a path")
setting("PUBLIC_URL", "https://loyalty.example.com:99999", "without a path")


@wrong("PostgreSQL without a key", POSTGRES, "LOYALPRO_SECRET_KEY is required on PostgreSQL")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {"LOYALPRO_DATABASE_URL": "postgresql://u@127.0.0.1:1/db"}


@wrong("PostgreSQL is away", POSTGRES, "PostgreSQL cannot be reached")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {"LOYALPRO_DATABASE_URL": "postgresql://u@127.0.0.1:1/db", "LOYALPRO_SECRET_KEY": KEY}


@wrong("the database does not exist", POSTGRES, "nowhere")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {"LOYALPRO_DATABASE_URL": databases.cluster.dsn("nowhere"), "LOYALPRO_SECRET_KEY": KEY}


@wrong("PostgreSQL is newer", POSTGRES, "newer than this program.*Install the newer LoyalPro")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    url = databases.fresh("postgres")
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("INSERT INTO schema_migrations (name, checksum, applied_at) VALUES ('9999_x', 'x', 1)")
    return {"LOYALPRO_DATABASE_URL": url, "LOYALPRO_SECRET_KEY": KEY}


@wrong("PostgreSQL may lose commits", POSTGRES, "Set synchronous_commit=on")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    url = databases.fresh("postgres")
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f'ALTER DATABASE "{url.rpartition("/")[2]}" SET synchronous_commit = off'.encode())
    return {"LOYALPRO_DATABASE_URL": url, "LOYALPRO_SECRET_KEY": KEY}


@wrong("a worker on SQLite", ("worker",), "A worker needs PostgreSQL: set LOYALPRO_DATABASE_URL")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {}


@wrong("SQLite is newer", FILE, "newer than this program")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    url = databases.fresh("sqlite")
    Path(url.removeprefix("sqlite:///")).parent.chmod(0o700)
    connection = apsw.Connection(url.removeprefix("sqlite:///"))
    connection.execute("INSERT INTO schema_migrations (name, checksum, applied_at) VALUES ('9999_x', 'x', 1)")
    connection.close()
    return {"LOYALPRO_DATABASE_URL": url}


@wrong("no database to administer", ("keys list", "accounts list"), "There is no database .*LOYALPRO_DATA_DIR")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {}


@wrong("a backup in a missing folder", ("backup away/copy.db",), "away")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {"LOYALPRO_DATABASE_URL": databases.fresh("sqlite")}


@wrong("a backup of nothing", ("backup copy.db",), "loyalpro.db")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {}


@wrong("a key that is too short", ("serve",), "at least 16 characters")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {"LOYALPRO_SECRET_KEY": "short"}


@wrong("an empty key file", ("serve",), r"secret\.key has no key.*Restore the file")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    (folder / "secret.key").touch()
    return {"LOYALPRO_DATA_DIR": str(folder)}


@wrong("a key file that is cut off", ("serve",), r"secret\.key has no key.*Restore the file")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    (folder / "secret.key").write_bytes(b"0123456789")
    return {"LOYALPRO_DATA_DIR": str(folder), "LOYALPRO_SECRET_KEY": KEY}


@wrong("a key file with other bytes", ("serve",), r"secret\.key has no key.*Restore the file")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    (folder / "secret.key").write_bytes(bytes(range(128, 200)))
    return {"LOYALPRO_DATA_DIR": str(folder)}


@wrong("a key file that cannot be read", ("serve",), r"Permission denied: \S+secret\.key", privileged=False)
def _(folder: Path, databases: Databases) -> dict[str, str]:
    (folder / "secret.key").touch(mode=0)
    return {"LOYALPRO_DATA_DIR": str(folder)}


@wrong("no certificates", ("serve",), r"LOYALPRO_EGRESS_CA_FILE: \S+ cannot be read \(No such file")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {"LOYALPRO_EGRESS_CA_FILE": str(folder / "away.pem")}


@wrong("something else than certificates", ("serve",), "has no certificates in PEM form")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    (folder / "ca.pem").write_text("hello")
    return {"LOYALPRO_EGRESS_CA_FILE": str(folder / "ca.pem")}


@wrong("a folder at the root", FILE, "/loyalpro-test-nowhere does not exist. Create it")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {"LOYALPRO_DATABASE_URL": "sqlite:////loyalpro-test-nowhere/loyalpro.db"}


@wrong("a folder in a missing one", SQLITE, "missing/data does not exist. Create it")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {"LOYALPRO_DATA_DIR": str(folder / "missing" / "data")}


@wrong("a file as data folder", SQLITE, "is a file, and LoyalPro needs a folder there")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    (folder / "data").touch()
    return {"LOYALPRO_DATA_DIR": str(folder / "data")}


@wrong("a folder as database", FILE, "is a folder. Choose the path of a file")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    (folder / "data").mkdir()
    return {"LOYALPRO_DATABASE_URL": f"sqlite:///{folder / 'data'}"}


@wrong("another file as database", FILE, "is not a SQLite database. Choose another file")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    (folder / "notes.txt").write_text("hello " * 1_000)
    return {"LOYALPRO_DATABASE_URL": f"sqlite:///{folder / 'notes.txt'}"}


@wrong("the database of another program", FILE, "is the database of another program. Choose another file")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    connection = apsw.Connection(str(folder / "other.db"))
    connection.execute("CREATE TABLE accounts (id INTEGER); CREATE TABLE schema_migrations (version TEXT)")
    connection.close()
    return {"LOYALPRO_DATABASE_URL": f"sqlite:///{folder / 'other.db'}"}


@wrong("a damaged database", FILE, "is damaged.* Restore it from a backup")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    url = databases.fresh("sqlite")
    path = Path(url.removeprefix("sqlite:///"))
    content = bytearray(path.read_bytes())
    content[100:4096] = bytes(3996)
    path.write_bytes(content)
    return {"LOYALPRO_DATABASE_URL": url}


@wrong("a folder that cannot be written", SQLITE, "Permission denied: .*LOYALPRO_DATA_DIR", privileged=False)
def _(folder: Path, databases: Databases) -> dict[str, str]:
    (folder / "data").mkdir(mode=0o500)
    return {"LOYALPRO_DATA_DIR": str(folder / "data")}


@wrong("no right to create the folder", SQLITE, "Permission denied: .*LOYALPRO_DATA_DIR", privileged=False)
def _(folder: Path, databases: Databases) -> dict[str, str]:
    (folder / "owned").mkdir(mode=0o500)
    return {"LOYALPRO_DATA_DIR": str(folder / "owned" / "data")}


@wrong("a database that cannot be written", FILE, "the right to", privileged=False)
def _(folder: Path, databases: Databases) -> dict[str, str]:
    url = databases.fresh("sqlite")
    Path(url.removeprefix("sqlite:///")).parent.chmod(0o700)
    Path(url.removeprefix("sqlite:///")).chmod(0o400)
    return {"LOYALPRO_DATABASE_URL": url}


@wrong("an address of another machine", ("serve",), r"192\.0\.2\.1.* not an address of this machine.*LOYALPRO_HOST")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {"LOYALPRO_HOST": "192.0.2.1"}


@wrong("a host with a scheme", ("serve",), "LOYALPRO_HOST takes an address of this machine.*without a scheme")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {"LOYALPRO_HOST": "http://127.0.0.1:8700"}


@wrong("a host that is no name", ("serve",), "LOYALPRO_HOST takes an address of this machine")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    return {"LOYALPRO_HOST": "a..b"}


@wrong("a worker at another address", ("worker",), "not an address of this machine.*LOYALPRO_WORKER_LISTEN")
def _(folder: Path, databases: Databases) -> dict[str, str]:
    url = "postgresql://u@127.0.0.1:1/db"
    return {"LOYALPRO_DATABASE_URL": url, "LOYALPRO_SECRET_KEY": KEY, "LOYALPRO_WORKER_LISTEN": "192.0.2.1:0"}


@pytest.mark.parametrize(
    ("case", "command"),
    [pytest.param(case, each, id=f"{case.name}-{each}") for case in CASES for each in case.commands],
)
def test_a_failed_start_says_what_to_do_in_one_line(
    commands: Commands, databases: Databases, tmp_path: Path, case: Case, command: str
) -> None:
    environment = {"LOYALPRO_PORT": "0"} | case.prepare(tmp_path, databases)
    line = one_line(commands.run(command, tmp_path, environment, privileged=case.privileged))
    assert re.search(case.says, line), line
    assert not Path("/loyalpro-test-nowhere").exists()


@pytest.mark.parametrize("command", CLIENTS)
@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "Set LOYALPRO_API_KEY"),
        ({"LOYALPRO_API_KEY": " \n"}, "Set LOYALPRO_API_KEY"),
        ({"LOYALPRO_API_KEY": "lp_a\nb"}, "characters that no key has"),
        ({"LOYALPRO_API_KEY": "lp_a", "LOYALPRO_SERVER": "http://127.0.0.1:1"}, "Is one running there"),
        ({"LOYALPRO_API_KEY": "lp_a", "LOYALPRO_SERVER": "http://127.0.0.1:x"}, "LOYALPRO_SERVER .*takes the address"),
        ({"LOYALPRO_API_KEY": "lp_a", "LOYALPRO_SERVER": "127.0.0.1:8700"}, "LOYALPRO_SERVER .*takes the address"),
        ({"LOYALPRO_API_KEY": "lp_a", "LOYALPRO_SERVER": "http://[::1"}, "LOYALPRO_SERVER .*takes the address"),
        ({"LOYALPRO_API_KEY": "lp_a", "LOYALPRO_SERVER": "http://ada:hidden@127.0.0.1:1"}, "without a path"),
    ],
)
def test_a_command_without_a_server_says_what_to_do_in_one_line(
    commands: Commands, tmp_path: Path, command: str, environment: dict[str, str], says: str
) -> None:
    line = one_line(commands.run(command, tmp_path, environment))
    assert re.search(says, line), line
    assert "hidden" not in line


# -- what needs more than variables --------------------------------------------------------------------------------------


def test_a_second_server_in_the_same_folder_names_the_first(
    commands: Commands, databases: Databases, tmp_path: Path
) -> None:
    url = databases.fresh("sqlite")
    with Server(url):
        for command in FILE:
            line = one_line(commands.run(command, tmp_path, {"LOYALPRO_DATABASE_URL": url, "LOYALPRO_PORT": "0"}))
            assert re.search(rf"Another LoyalPro \(process {os.getpid()}\).*LOYALPRO_DATA_DIR", line)


def test_a_port_that_is_taken_names_the_variable(commands: Commands, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command in ("serve", "demo"):
            line = last_line(commands.run(command, tmp_path, {"LOYALPRO_PORT": port}))
            assert re.search(rf"127\.0\.0\.1:{port} .*choose another port with LOYALPRO_PORT", line)


def test_a_server_without_the_key_of_its_secrets_makes_no_other_key(commands: Commands, tmp_path: Path) -> None:
    environment = at(tmp_path)
    with Server(f"sqlite:///{tmp_path / 'loyalpro.db'}", secret_key="") as server:
        server.post("/v1/webhook_endpoints", ENDPOINT)
    (tmp_path / "secret.key").rename(tmp_path / "away")
    line = one_line(commands.run("serve", tmp_path, environment))
    assert re.search(r"secret\.key. Put the file back, or set LOYALPRO_SECRET_KEY", line)
    assert not [each.name for each in tmp_path.iterdir() if each.name.startswith("secret")]
    line = one_line(commands.run("serve", tmp_path, environment | {"LOYALPRO_SECRET_KEY": KEY}))
    assert "LOYALPRO_SECRET_KEY=new,old" in line
    assert not [each.name for each in tmp_path.iterdir() if each.name.startswith("secret")]


def test_a_refused_start_does_not_change_the_file_of_another_program(commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE customers (id INTEGER)")
    connection.close()
    path.chmod(0o644)
    before = path.read_bytes()
    for command in FILE:
        one_line(commands.run(command, tmp_path, {"LOYALPRO_DATABASE_URL": f"sqlite:///{path}", "LOYALPRO_PORT": "0"}))
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (before, 0o644)


def test_a_refused_start_creates_no_key(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "loyalpro.db").write_text("hello " * 1_000)
    one_line(commands.run("serve", tmp_path, at(tmp_path)))
    assert not (tmp_path / "secret.key").exists()


@on_a_small_disk
def test_a_read_only_disk_is_named(commands: Commands, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "data").mkdir()
        assert ctypes.CDLL(None).mount(b"tmpfs", bytes(disk), b"tmpfs", 32 | 1, None) == 0  # remount, read-only
        for command in SQLITE:
            for folder in (disk / "data", disk / "new"):
                line = one_line(commands.run(command, tmp_path, at(folder)))
                assert re.search(rf"{folder}\S* is on a read-only file system.*LOYALPRO_DATA_DIR", line) or (
                    command == "demo" and "The demo needs 100 MB" in line
                )


@on_a_small_disk
def test_a_full_disk_is_named(commands: Commands, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as disk:
        (disk / "data").mkdir()
        fill(disk)
        for command in SQLITE:
            line = last_line(commands.run(command, tmp_path, at(disk / "data")))
            assert re.search("disk .* is full. Free some space|The demo needs 100 MB", line), line


@pytest.mark.parametrize(
    "program", [[sys.executable, "-m", "loyalpro"], [sys.executable, "-c", "from loyalpro.cli.main import app; app()"]]
)
def test_every_way_to_run_the_program_ends_with_one_line_and_status_1(tmp_path: Path, program: list[str]) -> None:
    (tmp_path / "loyalpro.db").write_text("hello " * 1_000)
    environment = at(tmp_path)
    done = subprocess.run(
        [*program, "serve"], env=os.environ | environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert "not a SQLite database" in one_line(Finished(done.returncode, done.stdout, done.stderr))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(13, ""), "CAP_NET_BIND_SERVICE.*LOYALPRO_PORT"),
        (OSError(98, ""), "Stop the process that listens there"),
        (OSError(97, ""), "Choose another address with LOYALPRO_HOST"),
    ],
)
def test_a_socket_that_cannot_be_opened_has_advice(error: OSError, says: str) -> None:
    assert re.search(says, listener.advise(error).format(variable="LOYALPRO_PORT", host_variable="LOYALPRO_HOST"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "[::1]"])
def test_a_server_listens_on_names_and_addresses(host: str) -> None:
    with listener.listen(host, 0, "LOYALPRO_PORT", "LOYALPRO_HOST") as listening:
        assert listening.getsockname()[1] > 0


# -- values as they come -------------------------------------------------------------------------------------------------


@contextmanager
def variables(monkeypatch: pytest.MonkeyPatch, **values: str) -> Iterator[Settings]:
    for name, value in values.items():
        monkeypatch.setenv(f"LOYALPRO_{name}", value)
    from loyalpro.settings import load

    yield load()


def test_white_space_around_a_value_and_an_empty_value_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/loyalpro.db\n",
        "DATA_DIR": " ",
        "HOST": " 127.0.0.1\r\n",
        "PORT": "",
        "RETRY_SCHEDULE": "5, 60\n",
        "EGRESS_ALLOW": "\n",
        "BOOTSTRAP_API_KEY": "",
        "BOOTSTRAP_PASSWORD": " with space \n",
        "EGRESS_CA_FILE": "",
        "LOG_FORMAT": "json ",
        "SECRET_KEY": f" {KEY} , {KEY}2\n",
    }
    with variables(monkeypatch, **values) as settings:
        assert settings.sqlite_path == tmp_path / "loyalpro.db"
        assert (settings.data_dir, settings.host, settings.port) == (Path("loyalpro-data"), "127.0.0.1", 8700)
        assert (settings.retry_schedule, settings.egress_allow) == ((5.0, 60.0), ())
        assert (settings.bootstrap_api_key, settings.egress_ca_file, settings.log_format) == (None, None, "json")
        assert settings.bootstrap_password is not None
        assert settings.bootstrap_password.get_secret_value() == " with space "
        assert settings.secret_keys == [KEY, f"{KEY}2"]


def test_a_path_may_start_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with variables(monkeypatch, DATA_DIR="~/data") as settings:
        assert settings.data_dir == tmp_path / "data"


def test_the_folder_of_a_new_database_is_created_for_its_owner_only(tmp_path: Path, databases: Databases) -> None:
    with Server(f"sqlite:///{tmp_path / 'data' / 'loyalpro.db'}"):
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"TZ": "Nowhere/X"}]
)
def test_a_server_starts_with_any_locale_and_time_zone(tmp_path: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "loyalpro", "serve"],
        env=os.environ | environment | {"LOYALPRO_DATA_DIR": str(tmp_path / "data"), "LOYALPRO_PORT": "0"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any('"listening"' in line for line in lines)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)


def test_help_is_printed_on_a_terminal_without_utf_8(tmp_path: Path) -> None:
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "loyalpro", "--help"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_application_writes_nothing_before_it_starts(tmp_path: Path) -> None:
    Application(Settings(data_dir=tmp_path / "data"))
    assert list(tmp_path.iterdir()) == []
