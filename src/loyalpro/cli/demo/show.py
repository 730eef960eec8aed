"""Runs the demo: starts the server and the receiver, prints their addresses, and records purchases until Ctrl-C."""

import asyncio
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import structlog
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from loyalpro.cli.api_client import ApiClient, ApiProblem
from loyalpro.cli.demo import traffic
from loyalpro.cli.demo.certificates import issue
from loyalpro.cli.demo.fast_time import FastLoop
from loyalpro.cli.demo.history import NEWSLETTER, RECEIVER, SUBSCRIPTIONS, Subscription, write_history
from loyalpro.cli.demo.receiver import Received, Receiver
from loyalpro.cli.remote import SAYS, warn
from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.settings import Settings, load, unknown_settings
from loyalpro.storage.sqlite.database import FolderLock
from loyalpro.storage.sqlite.folder import make_folder

OWNER = "owner@demo.example"
"""The e-mail address of the demo's owner, who signs in to its dashboard."""
_START_S = 120.0
"""The first start on a slow machine compiles every module of Python."""
_SPACE_MB = 100
_DATABASE = "loyalpro.db"
_PORT_FILE = "receiver-port"
_LOCAL = "127.0.0.0/8,::1/128"
_PAUSE_S = 3.0


class Demo:
    """A server in another process, a receiver on a thread, and a shop on the main thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._console = Console(highlight=False, soft_wrap=True)
        self._stop = threading.Event()
        self._rng = random.SystemRandom()
        make_folder(settings.data_dir)
        _require_space(settings.data_dir)
        self._folder = settings.data_dir / "demo"
        self._lock = FolderLock(self._folder / "demo")
        self._lock.take()  # before any file changes that another demo may be using
        self.address = ""
        self.api_key = self._secret("api-key", "lp_demo_")
        self.password = self._secret("owner-password", "demo-")
        self._certificates = issue(self._folder, SystemClock())
        self._receiver = Receiver(self._certificates, self._print, port=self._last_port(), down=NEWSLETTER.path)
        (self._folder / _PORT_FILE).write_text(str(self._receiver.port), "utf-8")

    def run(self) -> None:
        """Run until Ctrl-C, SIGTERM, or the end of the server."""
        try:
            self._run()
        finally:
            self._lock.release()

    def _run(self) -> None:
        self._console.print(f"Starting the server and a receiver; their files are in {self._folder} ...", style="dim")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stop.set())
        if not (self._folder / _DATABASE).exists():
            self._write_history()
        if self._stop.is_set():
            return
        self._receiver.start()
        server = self._start_server()
        try:
            self._wait_until_ready(server)
            if not self._stop.is_set():
                self._sell(server)
        finally:
            server.terminate()
            server.wait(30)
            self._receiver.stop()

    def _write_history(self) -> None:
        """Write the past of the demo into files of their own, which take their places when it is complete."""
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        making = self._folder / "making"
        shutil.rmtree(making, ignore_errors=True)
        make_folder(making)
        settings = self._settings.model_copy(
            update={
                "database_url": SecretStr(f"sqlite:///{making / _DATABASE}"),
                "egress_allow": tuple(map(ip_network, _LOCAL.split(","))),
                "bootstrap_api_key": SecretStr(self.api_key),
                "bootstrap_email": OWNER,
                "bootstrap_password": SecretStr(self.password),
            }
        )
        columns = (TextColumn("Writing a week of history"), BarColumn(), TaskProgressColumn())
        with (
            Progress(*columns, console=self._console, transient=True) as progress,
            asyncio.Runner(loop_factory=FastLoop) as runner,
        ):
            task = progress.add_task("history")
            is_complete = runner.run(
                write_history(
                    settings,
                    self._receiver.url,
                    now=SystemClock().now_ms(),
                    rng=self._rng,
                    report=lambda done, whole: progress.update(task, completed=done, total=whole),
                    is_stopped=self._stop.is_set,
                )
            )
        if is_complete:
            (making / "secret.key").replace(self._folder / "secret.key")
            (making / _DATABASE).replace(self._folder / _DATABASE)
        shutil.rmtree(making)

    def _last_port(self) -> int:
        """The port at which the receiver listened the last time; 0 at the first start."""
        try:
            return int((self._folder / _PORT_FILE).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return 0

    def _start_server(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "LOYALPRO_DATABASE_URL": f"sqlite:///{self._folder / _DATABASE}",
            "LOYALPRO_HOST": "127.0.0.1",
            "LOYALPRO_PORT": str(self._settings.port),
            "LOYALPRO_BOOTSTRAP_API_KEY": self.api_key,
            "LOYALPRO_BOOTSTRAP_EMAIL": OWNER,
            "LOYALPRO_BOOTSTRAP_PASSWORD": self.password,
            "LOYALPRO_EGRESS_ALLOW": _LOCAL,
            "LOYALPRO_EGRESS_CA_FILE": str(self._certificates.ca_file),
            "LOYALPRO_LOG_FORMAT": "json",
        }
        self._log = self._folder / "server.log"
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen([sys.executable, "-m", "loyalpro", "serve"], env=environment, stderr=log)

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        clock = SystemClock()
        deadline_s = clock.monotonic_s() + _START_S
        while not self._stop.is_set():
            if self._is_ready():
                return
            if server.poll() is not None or clock.monotonic_s() > deadline_s:
                raise ConfigurationError(f"The server of the demo did not start: {self._reason()}")
            self._stop.wait(0.1)

    def _is_ready(self) -> bool:
        """Whether the server answers. Its log names its address; before that, another process may answer there."""
        listening = [line for line in self._log_lines() if '"event": "listening"' in line]
        if not listening:
            return False
        self.address = json.loads(listening[0])["address"]
        client = ApiClient(self.address, self.api_key, timeout_s=2)
        try:
            client.call("GET", "/readyz")
        except ApiProblem:
            return False
        finally:
            client.close()
        return True

    def _reason(self) -> str:
        """The line in which the server says why it did not start."""
        lines = self._log_lines()
        said = [line.removeprefix(SAYS) for line in lines if line.startswith(SAYS)]
        return (said or lines or ["it logged nothing"])[-1]

    def _log_lines(self) -> list[str]:
        """The lines that the server has logged since this start."""
        return self._log.read_bytes()[self._log_start :].decode(errors="replace").splitlines()

    def _sell(self, server: subprocess.Popen[bytes]) -> None:
        client = ApiClient(self.address, self.api_key)
        known = {each["description"]: each for each in client.call("GET", "/v1/webhook_endpoints?limit=100")["data"]}
        for each in SUBSCRIPTIONS:
            if each.name in known or each is RECEIVER:
                self._subscribe(client, each, known.get(each.name))
        self._print_introduction()
        customers = traffic.enroll_customers(client, self._rng)
        for purchase in traffic.purchases(self._rng, customers):
            if self._stop.wait(_PAUSE_S) or server.poll() is not None:
                break
            client.call("POST", "/v1/transactions", purchase)
        client.close()

    def _subscribe(self, client: ApiClient, wanted: Subscription, known: dict[str, Any] | None) -> None:
        """Have an endpoint lead to the receiver, and tell the receiver its secret."""
        url = self._receiver.url + wanted.path
        if known is None:
            body = {"url": url, "events": list(wanted.types), "description": wanted.name}
            known = client.call("POST", "/v1/webhook_endpoints", body)
        elif known["url"] != url:
            client.call("PATCH", f"/v1/webhook_endpoints/{known['id']}", {"url": url})
        secret = client.call("GET", f"/v1/webhook_endpoints/{known['id']}/secret")
        self._receiver.secrets[wanted.path] = secret["secret"]

    def _print_introduction(self) -> None:
        body = '{"customer_external_id": "demo-ada", "amount": 5600, "currency": "EUR"}'
        self._console.print(f"\n  [bold]LoyalPro is running[/] at {self.address}\n")
        self._console.print(f"  dashboard  {self.address}\n  e-mail     {OWNER}\n  password   {self.password}\n")
        self._console.print(
            f"  API key    {self.api_key}\n  receiver   {self._receiver.url}{RECEIVER.path}\n  server log {self._log}\n"
        )
        self._console.print("  Record a purchase, and watch its webhooks arrive below:\n")
        command = (
            f"  curl {self.address}/v1/transactions -H 'Authorization: Bearer {self.api_key}' \\\n"
            f"    -H 'Content-Type: application/json' -d '{body}'"
        )
        print(command, flush=True)
        self._console.print("\n  Ctrl-C stops the demo.\n", style="dim")

    def _print(self, received: Received) -> None:
        body = received.body
        mark = "[green]verified[/]" if received.verified else "[red]NOT VERIFIED[/]"
        self._console.print(
            f"  {body['created_at'][11:23]}  {mark}  [bold]{body['type']:<22}[/]{escape(_summary(body))}"
        )

    def _secret(self, name: str, prefix: str) -> str:
        """A secret of the demo, generated at the first run and stored in its folder."""
        path = self._folder / name
        path.touch(mode=0o600)
        if not path.read_text("utf-8").startswith(prefix):
            path.write_text(prefix + self._rng.randbytes(16).hex(), "utf-8")
        return path.read_text("utf-8")


def _summary(body: dict[str, Any]) -> str:
    """The most important value of an event, for its line of output."""
    data = body["data"]
    match body["type"]:
        case "customer.created":
            return str(data["customer"]["name"])
        case "transaction.completed":
            cents = int(str(data["transaction"]["amount"]))
            return f"{cents // 100}.{cents % 100:02d} {data['transaction']['currency']}"
        case "points.earned":
            return f"+{data['points']} points, {data['balance']['after']} in all"
    return str(body["id"])


def run(port: int | None) -> None:
    """Run the demo with the data folder of the environment. `port` overrides the setting."""
    settings = load()
    warn(unknown_settings())
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    Demo(settings).run()


def _require_space(folder: Path) -> None:
    """`ConfigurationError` when the disk of the folder is nearly full."""
    if shutil.disk_usage(folder).free < _SPACE_MB * 2**20:
        raise ConfigurationError(
            f"The demo needs {_SPACE_MB} MB, and the disk of {folder} has less. Free some space, or choose another folder "
            "with LOYALPRO_DATA_DIR."
        )
