"""The smallest client of the HTTP API: what a command needs to talk to a server."""

import http.client
import json
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
        """The answer's JSON; a problem is raised with the server's own words."""
        payload = None if body is None else json.dumps(body)
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(method, path, payload, self._headers | extra)
            response = self._connection.getresponse()
            content = response.read()
            answer = json.loads(content) if content else None
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ApiProblem(f"{self._address} does not answer as a LoyalPro server does ({reason}).") from None
        if response.status >= http.client.BAD_REQUEST:
            raise ApiProblem(f"{method} {path}: {response.status} {answer.get('detail') if answer else ''}".strip())
        return answer

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
