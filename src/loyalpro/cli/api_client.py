"""A small client of the HTTP API, for the commands that talk to a server."""

import http.client
import json
import re
import select
from typing import Any, Final
from urllib.parse import urlsplit

from loyalpro.kernel.errors import LoyalProError

_VISIBLE: Final = re.compile(r"[!-~]+")
_NO_ADDRESS: Final = (
    "LOYALPRO_SERVER (or --server) takes the address of a server without a path, such as http://127.0.0.1:8700 or "
    "https://loyalty.example.com"
)


class ApiProblem(LoyalProError):
    """The server refused a call, or did not answer it."""

    code = "api_problem"


class ApiClient:
    """One connection to one server, with one API key."""

    def __init__(self, address: str, api_key: str, timeout_s: float = 30) -> None:
        scheme, host, port = _located(address.strip())
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        self._address = address.strip()
        self._connection = kind(host, port, timeout=timeout_s)
        if not _VISIBLE.fullmatch(api_key.strip()):
            raise ApiProblem(
                "The API key (LOYALPRO_API_KEY or --api-key) has characters that no key has. Copy it again."
            )
        self._headers = {"Authorization": f"Bearer {api_key.strip()}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """The JSON of the response. `ApiProblem` with the text of the server when it refuses the call.

        The connection is kept between calls. The server closes it when it was idle for long, or when the server restarts. If
        that is visible before the call is sent, the call uses a new connection. If the connection ends instead of a response,
        the server may have done the work: only a GET, or a POST with an Idempotency-Key, is then sent once more.
        """
        payload = None if body is None else json.dumps(body)
        extra = {name.replace("_", "-").title(): value for name, value in headers.items()}
        try:
            response = self._send(method, path, payload, extra)
            content = response.read()
            data = json.loads(content) if content else None
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ApiProblem(
                f"{self._address} does not answer as a LoyalPro server does ({reason}). Is one running there?"
            ) from None
        if response.status >= http.client.BAD_REQUEST:
            raise ApiProblem(f"{method} {path}: {response.status} {data.get('detail') if data else ''}".strip())
        return data

    def _send(self, method: str, path: str, payload: str | None, extra: dict[str, str]) -> http.client.HTTPResponse:
        """The head of the response. Only a kept connection gets a second try: a new one cannot have been closed as idle."""
        if self._is_closed_by_server():
            self._connection.close()
        is_kept = self._connection.sock is not None
        is_repeatable = method == "GET" or (method == "POST" and "Idempotency-Key" in extra)
        try:
            return self._exchange(method, path, payload, extra)
        except ConnectionError:
            if not (is_kept and is_repeatable):
                raise
        self._connection.close()
        return self._exchange(method, path, payload, extra)

    def _exchange(self, method: str, path: str, payload: str | None, extra: dict[str, str]) -> http.client.HTTPResponse:
        self._connection.request(method, path, payload, self._headers | extra)
        return self._connection.getresponse()

    def _is_closed_by_server(self) -> bool:
        """Whether the server has closed the connection. Between two calls, a readable socket can mean nothing else."""
        if self._connection.sock is None:
            return False
        poll = select.poll()
        poll.register(self._connection.sock, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _located(address: str) -> tuple[str, str, int | None]:
    """The scheme, the host and the port of an address. `ApiProblem` for anything else, which may contain a password."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ApiProblem(_NO_ADDRESS) from None
    extra = parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or extra:
        raise ApiProblem(_NO_ADDRESS)
    return parts.scheme, parts.hostname, port
