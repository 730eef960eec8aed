"""`loyalpro accounts` and `loyalpro keys` as real processes: beside a server, after its end, and on PostgreSQL."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from loyalpro.cli.administration import require_own_file
from loyalpro.kernel.errors import ConfigurationError
from support.databases import Databases
from support.history import query

pytestmark = pytest.mark.timeout(300)  # each command imports the program, which takes seconds on a busy machine
LOYALPRO = [sys.executable, "-m", "loyalpro"]
Environment = dict[str, str]


def environment(url: str) -> Environment:
    """The variables of a server on this database, and of the commands beside it."""
    ours = {
        "DATABASE_URL": url,
        "PORT": "0",
        "LOG_FORMAT": "json",
        "SECRET_KEY": "a key for tests of enough characters",
    }
    return os.environ | {f"LOYALPRO_{name}": value for name, value in ours.items()}


def run(variables: Environment, *arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*LOYALPRO, *arguments], env=variables, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == status, done
    return done


@dataclass(frozen=True)
class Serving:
    """A server that has started."""

    process: "subprocess.Popen[str]"
    port: int

    def status(self, key: str) -> int:
        """The status of a request with this key."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/v1/customers", headers={"Authorization": f"Bearer {key}"})
            return connection.getresponse().status
        finally:
            connection.close()


@contextmanager
def serving(variables: Environment) -> Iterator[Serving]:
    """`loyalpro serve`, from the time when it answers."""
    with subprocess.Popen([*LOYALPRO, "serve"], env=variables, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = (json.loads(line) for line in process.stderr)
        port = int(next(line for line in lines if line["event"] == "listening")["address"].rpartition(":")[2])
        rest = threading.Thread(target=lambda: list(lines), daemon=True)
        rest.start()
        started = Serving(process, port)
        assert started.status("lp_unknown_unknown") == 401
        try:
            yield started
        finally:
            process.kill()
            rest.join(30)


def created(output: str) -> tuple[str, str]:
    """The id and the text of a key that `keys create` has printed."""
    found = re.fullmatch(
        r"(key_\w+) is created: .+\n(?:  \w+ +.+\n){4}key: (lp_\w+)\nStore it now. It is not shown again.\n", output
    )
    assert found is not None, output
    return found[1], found[2]


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_keys_are_created_listed_and_revoked_while_the_server_runs(databases: Databases, store: str) -> None:
    variables = environment(databases.fresh(store))
    with serving(variables) as server:
        id_, text = created(
            run(variables, "keys", "create", "till", "--scopes", "read", "--expires-in-days", "1").stdout
        )
        assert server.status(text) == 200
        listed = run(variables, "keys", "list").stdout.splitlines()
        assert listed[0].split()[:2] == ["ID", "STATUS"]
        assert listed[1].split()[:4] == [id_, "active", text[-4:], "read"]
        assert run(variables, "keys", "revoke", text).stdout == f"{id_} is revoked: till, ends with {text[-4:]}\n"
        assert server.status(text) == 401
        [line] = run(variables, "keys", "list", "--json").stdout.splitlines()
        assert (json.loads(line)["id"], json.loads(line)["status"]) == (id_, "revoked")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) in (0, -signal.SIGTERM)


def test_a_second_account_gets_a_key_and_sees_nothing_of_the_first(databases: Databases) -> None:
    variables = environment(databases.fresh("sqlite"))
    with serving(variables) as server:
        account = json.loads(run(variables, "accounts", "create", "Bakery", "--json").stdout)["id"]
        assert "--account" in run(variables, "keys", "create", "till", status=1).stderr
        made = json.loads(run(variables, "keys", "create", "till", "--account", account, "--json").stdout)
        assert server.status(made["key"]) == 200
        table = run(variables, "accounts", "list").stdout.splitlines()
        assert [row.split()[1] for row in table] == ["KEYS", "0", "1"]


def test_after_a_kill_the_commands_open_the_file_and_a_new_server_replaces_the_socket(databases: Databases) -> None:
    url = databases.fresh("sqlite")
    variables = environment(url)
    socket = Path(url.removeprefix("sqlite:///") + ".sock")
    with serving(variables) as server:
        _, text = created(run(variables, "keys", "create", "till").stdout)
        server.process.kill()
    assert socket.exists()
    id_, other = created(run(variables, "keys", "create", "other").stdout)
    with serving(variables) as server:
        assert [server.status(each) for each in (text, other)] == [200, 200]
        run(variables, "keys", "revoke", id_)
        assert [server.status(each) for each in (text, other)] == [200, 401]
    actors = query(url, "SELECT DISTINCT actor FROM audit_log WHERE action LIKE 'api_key.%'")
    assert actors == [("cli",)]


def test_a_missing_database_is_not_created(tmp_path: Path) -> None:
    variables = environment(f"sqlite:///{tmp_path / 'none' / 'loyalpro.db'}")
    done = run(variables, "keys", "list", status=1)
    assert done.stdout == ""
    assert done.stderr.startswith(f"loyalpro: There is no database {tmp_path / 'none' / 'loyalpro.db'}.")
    assert not (tmp_path / "none" / "loyalpro.db").exists()


def test_the_file_of_another_user_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "loyalpro.db"
    path.touch()
    require_own_file(path, path.stat().st_uid)
    with pytest.raises(ConfigurationError, match="sudo -u"):
        require_own_file(path, path.stat().st_uid + 1)


def test_a_refused_command_says_what_to_do_and_exits_with_1(databases: Databases) -> None:
    done = run(environment(databases.fresh("sqlite")), "keys", "create", "till", status=1)
    assert done.stdout == ""
    [line] = [each for each in done.stderr.splitlines() if not each.startswith("{")]  # the others are of the log
    assert line == "loyalpro: There is no account yet. Create one with: loyalpro accounts create NAME"
