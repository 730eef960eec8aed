"""A real Chromium for tests, and axe.

One browser runs in each process of the suite, driven in a thread of its own: Playwright keeps an event loop running in the thread
that it is started in, and other tests need theirs. Each test gets a context, which is as good as a new browser.
"""

import base64
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Playwright, Request, sync_playwright

from support.debian import find, program

T = TypeVar("T")
Theme = Literal["light", "dark"]

_NAMES: Final = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
_DOWNLOADS: Final = "chromium-*/chrome-linux*/chrome"
"""Where `playwright install chromium` puts it, below its folder."""
_ABORTED: Final = "net::ERR_ABORTED"
_TIMEOUT_MS: Final = 20_000
_LONGEST_S: Final = 100
_TALLEST_PX: Final = 4_000
WIDTHS: Final = (1280, 768, 390)
NARROWEST: Final = 320
THEMES: Final[tuple[Theme, ...]] = ("light", "dark")


class Tab:
    """A page of the browser in a context of its own. `troubles`: what no page may cause.

    These are messages and errors of scripts, violations of the policy, dialogs, and requests that failed.
    """

    def __init__(self, context: BrowserContext, base_url: str) -> None:
        self.context = context
        self.base_url = base_url
        self.troubles: list[str] = []
        self._expected: list[str] = []
        context.set_default_timeout(_TIMEOUT_MS)
        context.on("console", self._on_console)
        context.on("dialog", self._on_dialog)
        context.on("requestfailed", self._on_failure)
        context.on("weberror", lambda error: self.troubles.append(f"error: {error.error}"))
        self.page: Page = context.new_page()

    def open(self, path: str) -> Page:
        """Go to a path of the server."""
        self.page.goto(f"{self.base_url}{path}")
        return self.page

    def sign_in(self, token: str) -> None:
        """Use the web session with this token."""
        self.context.add_cookies([{"name": "loyalpro", "value": token, "url": self.base_url}])

    def picture(self) -> bytes:
        """The whole page as WebP."""
        self.page.evaluate("() => document.fonts.ready")
        session = self.context.new_cdp_session(self.page)
        size = session.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], _TALLEST_PX), "scale": 1}
        taken = session.send(
            "Page.captureScreenshot", {"format": "webp", "quality": 80, "captureBeyondViewport": True, "clip": clip}
        )
        return base64.b64decode(taken["data"])

    def expect(self, pattern: str) -> None:
        """Troubles that contain this pattern belong to the test, such as the status 404 of an address that does not exist."""
        self._expected.append(pattern)

    def violations(self) -> list[str]:
        """What axe finds on the page: each violation, and each text whose contrast it could not decide.

        Text of a chart is left out: axe decides nothing in pictures, and the contrast of its color is tested beside all others.
        """
        self.page.evaluate(_axe())
        found = self.page.evaluate(
            "() => axe.run(document, {preload: false, resultTypes: ['violations', 'incomplete']})"
        )
        undecided = [each for each in found["incomplete"] if each["id"] == "color-contrast"]
        return [
            f"{each['id']}: {each['help']}: {node['html'][:200]} {_why(node)}"
            for each in [*found["violations"], *undecided]
            for node in each["nodes"]
            if each["id"] != "color-contrast" or not node["html"].startswith("<text ")
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        wider: int = self.page.evaluate(
            "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return wider

    def require_quiet(self) -> None:
        """Fail when there was any trouble that was not expected."""
        left = [each for each in self.troubles if not any(re.search(pattern, each) for pattern in self._expected)]
        assert left == []

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"{message.type}: {message.text} {message.location.get('url', '')}")

    def _on_dialog(self, dialog: Dialog) -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _on_failure(self, request: Request) -> None:
        if request.failure != _ABORTED:  # a page that is left ends its own requests
            self.troubles.append(f"failed: {request.url}: {request.failure}")


class Browser:
    """A running Chromium. What touches it has to run in its thread: see `run`."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="browser", daemon=True)
        self._thread.start()
        self._is_stuck = False
        self._playwright: Playwright | None = None
        self._path = chromium()
        self.run(self._start)

    def run(self, work: Callable[[], T]) -> T:
        """The result of `work` in the thread of the browser."""
        assert not self._is_stuck, "an earlier test did not end"
        future: Future[T] = Future()
        self._work.put((work, future))
        try:
            return future.result(_LONGEST_S)
        except TimeoutError:
            self._is_stuck = not future.done()
            raise

    @contextmanager
    def tab(
        self, base_url: str, *, width: int = 1280, height: int = 900, theme: Theme = "light", scripts: bool = True
    ) -> Iterator[Tab]:
        """A new tab in a new context."""
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            reduced_motion="reduce",
            java_script_enabled=scripts,
            locale="en-GB",
            timezone_id="Europe/Berlin",
        )
        try:
            yield Tab(context, base_url)
        finally:
            context.close()

    def stop(self) -> None:
        """End the browser."""
        if not self._is_stuck:
            self.run(self._stop)
            self._work.put(None)
            self._thread.join()

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            work, future = item
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                future.set_exception(error)

    def _start(self) -> None:
        self._playwright = sync_playwright().start()
        arguments = ["--disable-dev-shm-usage", "--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        self._browser = self._playwright.chromium.launch(executable_path=self._path, args=arguments)

    def _stop(self) -> None:
        self._browser.close()
        assert self._playwright is not None
        self._playwright.stop()


def chromium() -> Path:
    """The path of a Chromium: one that is installed, one that Playwright has downloaded, or that of Debian, which root installs."""
    found = next((path for path in map(find, _NAMES) if path is not None), None) or _downloaded()
    return found or program("chromium", "chromium")


def _downloaded() -> Path | None:
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    found = sorted(each for each in folder.glob(_DOWNLOADS) if shutil.which(each))
    return found[-1] if found else None


def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")


def _why(node: dict[str, Any]) -> str:
    return "; ".join(check["message"] for check in [*node["any"], *node["all"], *node["none"]])
