"""A browser without a screen for tests: it keeps cookies, sends the forms of pages, and follows nothing by itself."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode

from support.server import Server


@dataclass(frozen=True)
class Seen:
    """A response. `headers`: by names in lower case."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def form(self) -> dict[str, str]:
        """The hidden fields of the first form of the page."""
        return _forms(self.text)[0]


@dataclass
class Surfer:
    """Somebody with a browser: cookies, and what a browser says of each request."""

    server: Server
    host: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """The origin of the pages that are seen."""
        return f"http://{self.host or f'127.0.0.1:{self.server.port}'}"

    def get(self, path: str, **headers: str) -> Seen:
        """Open a page."""
        return self.request("GET", path, None, **{"Accept": "text/html", "Sec_Fetch_Site": "none"} | headers)

    def post(self, path: str, fields: Mapping[str, object], **headers: str) -> Seen:
        """Send a form from a page of the same site. A list is a field with several values."""
        defaults = {
            "Content_Type": "application/x-www-form-urlencoded",
            "Sec_Fetch_Site": "same-origin",
            "Origin": self.origin,
        }
        body = urlencode(fields, doseq=True).encode()
        return self.request("POST", path, body, **{"Accept": "text/html"} | defaults | headers)

    def request(self, method: str, path: str, body: bytes | None, **headers: str) -> Seen:
        """Send exactly this; a header that is empty is left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
        if self.host:
            sent.setdefault("Host", self.host)
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            for cookie in response.headers.get_all("set-cookie") or ():
                name, _, value = cookie.partition(";")[0].partition("=")
                self.cookies[name] = value.strip('"')
                if "max-age=0" in cookie.lower():
                    del self.cookies[name]
            seen = {name.lower(): value for name, value in response.getheaders()}
            return Seen(response.status, seen, response.read().decode())
        finally:
            connection.close()


class _Hidden(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append({})
        elif tag == "input" and values.get("type") == "hidden" and self.forms:
            self.forms[-1][values["name"]] = values.get("value", "")


def _forms(html: str) -> list[dict[str, str]]:
    parser = _Hidden()
    parser.feed(html)
    return parser.forms
