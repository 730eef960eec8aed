"""A client of the HTTP API. Every result but a clear answer is `Unknown`, and the request can be repeated."""

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
_LONGEST_S = 120
_UNCLEAR = {409, 429, 502, 503, 504, 507}


T = TypeVar("T")


class Unknown(Exception):
    """There is no clear answer: the request may have taken effect or not."""


class Refusal(Exception):
    """The server rejected the request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that says what happened. `replayed`: an earlier request with this key had taken effect."""

    status: int
    body: Any
    replayed: bool


def until_clear(ask: Callable[[], T]) -> T:
    """Repeat a request until the answer is clear, for two minutes at most; then raise `Unknown`."""
    deadline = time.monotonic() + _LONGEST_S
    while True:
        try:
            return ask()
        except Unknown:
            if time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_S)


class Client:
    """Uses one of several servers, chosen again after each failure."""

    def __init__(self, addresses: Sequence[str], api_key: str, rng: random.Random, timeout_s: float = 5) -> None:
        self._addresses = addresses
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._rng = rng
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: object = None, key: str | None = None) -> Answer:
        """Send a request once. Raises `Unknown` or `Refusal`; after `Unknown` the next call may go to another server."""
        headers = self._headers | ({"Idempotency-Key": key} if key else {})
        try:
            connection = self._connected()
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unknown(type(error).__name__) from None
        answer = json.loads(content) if content else None
        if response.status in _UNCLEAR or response.status >= 500:
            self.close()
            raise Unknown(f"{response.status} {answer.get('code') if isinstance(answer, dict) else ''}".strip())
        if response.status >= 400:
            raise Refusal(f"{method} {path}: {response.status} {content[:500]!r}")
        return Answer(response.status, answer, response.headers.get("Idempotent-Replayed") == "true")

    def insist(self, method: str, path: str, body: object = None, key: str | None = None) -> Answer:
        """Send a request until the answer is clear. Raises `Refusal`, or `Unknown` after two minutes."""
        return until_clear(lambda: self.call(method, path, body, key))

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urlsplit(self._rng.choice(self._addresses))
            self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self._timeout_s)
        return self._connection
