"""A browser without scripts: it keeps cookies, follows redirects, and sends forms with the token of the page that it shows."""

import copy
import html
import http.client
import re
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode, urljoin, urlsplit

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_MOST_REDIRECTS = 5


class Serving(Protocol):
    """A server on this machine."""

    @property
    def port(self) -> int:
        """The port on which it listens."""
        ...


@dataclass(frozen=True)
class Listening:
    """A server of another process, of which only the port is known."""

    port: int


class Browser:
    """One browser. `status`, `headers` and `text` are those of the page that it shows."""

    def __init__(self, server: Serving, *, host: str | None = None) -> None:
        self._port = server.port
        self.host = host or f"127.0.0.1:{server.port}"
        self.cookies: dict[str, str] = {}
        self.path, self.query = "/", ""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text = ""
        self.set_cookies: list[str] = []

    @property
    def origin(self) -> str:
        """The origin of the page."""
        return f"http://{self.host}"

    def copy(self) -> "Browser":
        """A browser at the same page with the same cookies, which goes on by itself."""
        other = copy.copy(self)
        other.cookies = dict(self.cookies)
        return other

    def open(self, path: str) -> None:
        """Open a page."""
        self._follow("GET", path, None, {"Sec-Fetch-Site": "none"})

    def send(
        self, path: str, *, headers: dict[str, str] | None = None, fields: dict[str, Any] | None = None, **more: Any
    ) -> None:
        """Send a form of the page that is shown to a path, with its token and its one-time key unless the fields have others."""
        hidden = {name: self.hidden(name) for name in ("csrf", "key")}
        sent = {name: value for name, value in (hidden | (fields or {}) | more).items() if value is not None}
        own = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Sec-Fetch-Site": "same-origin",
            "Origin": self.origin,
            "Referer": f"{self.origin}{self.path}",
        }
        self._follow("POST", path, urlencode(sent, doseq=True).encode(), own | (headers or {}))

    def upload(self, path: str, name: str, content: bytes, **fields: str) -> None:
        """Send a form of the page that is shown with a file, as `multipart/form-data`."""
        hidden = {each: self.hidden(each) or "" for each in ("csrf", "key")}
        parts = [
            f'--edge\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
            for field, value in (hidden | fields).items()
        ]
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: text/csv\r\n\r\n'
        parts.append(b"--edge\r\n" + head.encode() + content + b"\r\n--edge--\r\n")
        own = {
            "Content-Type": "multipart/form-data; boundary=edge",
            "Sec-Fetch-Site": "same-origin",
            "Origin": self.origin,
        }
        self._follow("POST", path, b"".join(parts), own)

    def hidden(self, name: str) -> str | None:
        """The value of a hidden field of the page."""
        found = re.findall(rf'<input type="hidden" name="{name}" value="([^"]*)"', self.text)
        return html.unescape(found[-1]) if found else None

    def request(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
        """Send one request, and show the response; its status."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        sent = {"Host": self.host, "User-Agent": FIREFOX, "Accept": "text/html"} | (headers or {})
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            self.status, self.text = response.status, response.read().decode()
            self.headers = {name.lower(): value for name, value in response.getheaders()}
            self.set_cookies = response.headers.get_all("set-cookie") or []
        finally:
            connection.close()
        self._store()
        address = urlsplit(path)
        self.path, self.query = address.path, address.query
        return self.status

    def _follow(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> None:
        self.request(method, path, body, headers)
        for _ in range(_MOST_REDIRECTS):
            if self.status != 303:
                return
            address = urlsplit(urljoin(f"{self.origin}{self.path}", self.headers["location"]))
            self.host = address.netloc
            self.request("GET", address.path + (f"?{address.query}" if address.query else ""))
        raise AssertionError("the redirects do not end")

    def _store(self) -> None:
        for line in self.set_cookies:
            pair, *attributes = line.split(";")
            name, _, value = pair.partition("=")
            if any(each.strip().lower() == "max-age=0" for each in attributes):
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value.strip('"')
