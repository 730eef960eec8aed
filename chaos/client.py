"""A client of the HTTP API that assumes nothing: whatever is not a clear answer is unknown, and can be repeated."""

import http.client
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

_AGAIN_S = 0.2
_PATIENCE_S = 120
_UNCLEAR = {409, 429, 502, 503, 504, 507}


T = TypeVar("T")


class Unknown(Exception):
    """No clear answer came: it may have happened or not."""


class Refusal(Exception):
    """The server said no, clearly."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A clear answer."""

    status: int
    body: Any
    replayed: bool


def patiently(ask: Callable[[], T]) -> T:
    """Ask until the answer is clear, for two minutes."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return ask()
        except Unknown:
            if time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_S)


class Client:
    """Talks to one of several servers, and to another one after each failure."""

    def __init__(self, addresses: Sequence[str], api_key: str, chance: random.Random, timeout_s: float = 5) -> None:
        self._addresses = addresses
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._chance = chance
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: object = None, key: str | None = None) -> Answer:
        """Ask once. Raises `Unknown` or `Refusal`; after an `Unknown` the next call goes to another server, perhaps."""
        headers = self._headers | ({"Idempotency-Key": key} if key else {})
        try:
            connection = self._connected()
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.hang_up()
            raise Unknown(type(error).__name__) from None
        answer = json.loads(content) if content else None
        if response.status in _UNCLEAR or response.status >= 500:
            self.hang_up()
            raise Unknown(f"{response.status} {answer.get('code') if isinstance(answer, dict) else ''}".strip())
        if response.status >= 400:
            raise Refusal(f"{method} {path}: {response.status} {content[:500]!r}")
        return Answer(response.status, answer, response.headers.get("Idempotent-Replayed") == "true")

    def insist(self, method: str, path: str, body: object = None, key: str | None = None) -> Answer:
        """Ask until the answer is clear."""
        return patiently(lambda: self.call(method, path, body, key))

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urlsplit(self._chance.choice(self._addresses))
            self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self._timeout_s)
        return self._connection
