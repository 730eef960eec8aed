"""A complete server in the process of the test: the application of `loyalpro serve`, on a free port."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from loyalpro.app import Application
from loyalpro.cli.bounded_http import BoundedHttp
from loyalpro.kernel.clock import Clock
from loyalpro.settings import Settings

T = TypeVar("T")
API_KEY = "lp_test_0123456789abcdef0123456789"


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        """The parsed body; None when it is empty."""
        return json.loads(self.raw) if self.raw else None


class Server:
    """A server that the constructor starts; a worker with `works_only`; `with_components` shows the page of parts. `call` sends requests to it."""

    def __init__(
        self,
        url: str,
        ca_file: Path | None = None,
        *,
        clock: Clock | None = None,
        works_only: bool = False,
        with_components: bool = False,
        **settings: Any,
    ) -> None:
        chosen: dict[str, Any] = {
            "database_url": url,
            "secret_key": "a key for tests of enough characters",
            "bootstrap_api_key": API_KEY,
            "egress_allow": "127.0.0.0/8,::1/128",
            "egress_ca_file": ca_file,
            "min_free_mb": 0,
        }
        self.application = Application(Settings(**chosen | settings), clock, with_components=with_components)
        app = self.application.watch if works_only else self.application.web
        config = uvicorn.Config(app, http=BoundedHttp, port=0, log_config=None, access_log=False, lifespan="on")
        self._server = uvicorn.Server(config)
        self.loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._ready.wait(30) or not self._server.started:
            raise AssertionError("the server did not start")
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]

    def call(self, method: str, path: str, body: Any = None, *, key: str | None = API_KEY, **headers: str) -> Answer:
        """Send one request on a new connection. Bytes are sent as they are; any other body is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        payload = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if payload is not None:
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, payload, sent)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """Send a `POST` that has to succeed; the JSON of the response."""
        answer = self.call("POST", path, body, **headers)
        assert 200 <= answer.status < 300, answer.raw
        return answer.json

    def get(self, path: str) -> Any:
        """Send a `GET` that has to succeed; the JSON of the response."""
        answer = self.call("GET", path)
        assert answer.status == 200, answer.raw
        return answer.json

    def listed(self, path: str) -> Any:
        """`get`, once `GET /v1/events` lists every event that is committed."""
        self.wait_until_listed()
        return self.get(path)

    def wait_until_listed(self) -> None:
        """Wait until `GET /v1/events` lists every event that is committed.

        On PostgreSQL the list waits for transactions that began earlier, whatever they do and in any database of the server.
        """
        settled = self.application.database.dialect.is_settled_event
        sql = f"SELECT COUNT(*) FROM events WHERE NOT ({settled or 'TRUE'})"
        read = self.application.runner.read
        while self.run(read(lambda unit: unit.connection.execute(sql))) != [(0,)]:
            pass

    def report_purchases_only(self) -> None:
        """Turn off the fraud rules, and leave one tier: purchases then cause two events each, however many there are."""
        rules = [{"code": each["code"], "enabled": False} for each in self.get("/v1/fraud/rules")["data"]]
        tiers = self.get("/v1/program")["tiers"][:1]
        for method, path, body in (
            ("PUT", "/v1/fraud/rules", {"rules": rules}),
            ("PATCH", "/v1/program", {"tiers": tiers}),
        ):
            answer = self.call(method, path, body)
            assert answer.status == 200, answer.raw

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs on the event loop of the server."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def until(self, path: str, accept: Callable[[Any], bool], timeout_s: float = 30) -> Any:
        """Repeat a `GET` until `accept` holds for the JSON of the response, and return it."""
        deadline_s = time.monotonic() + timeout_s
        while not accept(found := self.get(path)):
            if time.monotonic() > deadline_s:
                raise AssertionError(f"{path} still returns {found}")
        return found

    def stop(self) -> None:
        """Stop the server as SIGTERM does."""
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        startup = self._server.startup

        async def announced(sockets: Any = None) -> None:
            self.loop = asyncio.get_running_loop()
            await startup(sockets=sockets)
            self._ready.set()

        self._server.startup = announced  # type: ignore[method-assign]
        try:
            self._server.run()
        finally:
            self._ready.set()
