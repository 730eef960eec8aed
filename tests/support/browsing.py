"""A browser for tests of single requests: it sends what a browser sends, or what it is given instead, and follows nothing by itself."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from support.browser import Browser, Serving


@dataclass(frozen=True)
class Seen:
    """A response. `headers`: by names in lower case."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def form(self) -> dict[str, str]:
        """The hidden fields of the first form that makes a change; the one that finds makes none."""
        first = self.text.partition('method="post"')[2].partition("</form>")[0]
        fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', first)
        return {name: html.unescape(value) for name, value in fields}


class Surfer:
    """Somebody with a browser. Headers are given as arguments, with `_` for `-`; one that is empty is left out."""

    def __init__(self, server: Serving, host: str = "", cookies: Mapping[str, str] | None = None) -> None:
        self.server = server
        self._browser = Browser(server, host=host or None)
        self._browser.cookies |= cookies or {}

    @property
    def cookies(self) -> dict[str, str]:
        """What the browser keeps."""
        return self._browser.cookies

    @property
    def origin(self) -> str:
        """The origin of the pages that are seen."""
        return self._browser.origin

    def get(self, path: str, **headers: str) -> Seen:
        """Open a page."""
        return self.request("GET", path, None, **{"Sec_Fetch_Site": "none"} | headers)

    def post(self, path: str, fields: Mapping[str, object], **headers: str) -> Seen:
        """Send a form from a page of the same site. A list is a field with several values."""
        defaults = {
            "Content_Type": "application/x-www-form-urlencoded",
            "Sec_Fetch_Site": "same-origin",
            "Origin": self.origin,
        }
        return self.request("POST", path, urlencode(fields, doseq=True).encode(), **defaults | headers)

    def request(self, method: str, path: str, body: bytes | None, **headers: str) -> Seen:
        """Send exactly this."""
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
        self._browser.request(method, path, body, sent)
        return Seen(self._browser.status, self._browser.headers, self._browser.text)
