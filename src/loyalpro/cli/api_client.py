"""The smallest client of the HTTP API: what a command needs to talk to a server."""

import http.client
import json
import select
from typing import Any
from urllib.parse import urlsplit

from loyalpro.kernel.errors import LoyalProError


class ApiProblem(LoyalProError):
    """The server refused a call."""

    code = "api_problem"


class ApiClient:
    """One connection to one server, with one API key."""

    def __init__(self, address: str, api_key: str, timeout_s: float = 30) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ApiProblem(f"{address!r} is not an address of a server, such as http://127.0.0.1:8700.")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._address = address
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """The answer's JSON; a problem is raised with the server's own words.

        The connection is kept from call to call, and the server closes it when it was idle for long, or is restarted. If
        that shows before anything is sent, the call goes over a fresh one. If it shows only when an answer should come, the
        server may have done what it was asked: only a GET, or a POST with an Idempotency-Key, is then sent once more.
        """
        payload = None if body is None else json.dumps(body)
        extra = {name.replace("_", "-").title(): value for name, value in headers.items()}
        try:
            response = self._answer(method, path, payload, extra)
            content = response.read()
            answer = json.loads(content) if content else None
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ApiProblem(
                f"{self._address} does not answer as a LoyalPro server does ({reason}). Is one running there?"
            ) from None
        if response.status >= http.client.BAD_REQUEST:
            raise ApiProblem(f"{method} {path}: {response.status} {answer.get('detail') if answer else ''}".strip())
        return answer

    def _answer(self, method: str, path: str, payload: str | None, extra: dict[str, str]) -> http.client.HTTPResponse:
        """The answer's head. A second try is for connections that were kept: a fresh one was not closed because it was idle."""
        if self._hung_up():
            self._connection.close()
        kept = self._connection.sock is not None
        repeatable = method == "GET" or (method == "POST" and "Idempotency-Key" in extra)
        try:
            return self._exchange(method, path, payload, extra)
        except ConnectionError:
            if not (kept and repeatable):
                raise
        self._connection.close()
        return self._exchange(method, path, payload, extra)

    def _exchange(self, method: str, path: str, payload: str | None, extra: dict[str, str]) -> http.client.HTTPResponse:
        self._connection.request(method, path, payload, self._headers | extra)
        return self._connection.getresponse()

    def _hung_up(self) -> bool:
        """Whether the server has closed the connection: between two calls there is nothing else to read from it."""
        if self._connection.sock is None:
            return False
        poll = select.poll()
        poll.register(self._connection.sock, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
