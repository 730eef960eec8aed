"""nginx in front of the receivers: HTTP/2 over TLS with its default limits, reloaded again and again."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.journal import Journal
from support.nginx import Nginx
from support.receivers import Authority

_PORT_OF_THE_PATH = "map $uri $receiver { ~^/(?<port>[0-9]+)/ $port; }"
_FORWARD = "proxy_pass http://127.0.0.1:$receiver;"


class Front:
    """A running nginx, which forwards a path that begins with a port to that port. `ca_file`: the authority to trust."""

    def __init__(self, folder: Path, reload_every_s: float) -> None:
        folder.mkdir()
        authority = Authority(folder)
        self.ca_file = authority.ca_file
        self._every_s = reload_every_s
        self._over = threading.Event()
        self._nginx = Nginx(folder, authority, _FORWARD, http=_PORT_OF_THE_PATH)

    def url(self, port: int, name: str) -> str:
        """The URL of the receiver that listens on a port."""
        return f"https://localhost:{self._nginx.port}/{port}/{name}"

    def keep_reloading(self, journal: Journal) -> None:
        """Reload it at each interval, until `stop`. Each reload is recorded."""
        self._reloads = threading.Thread(target=self._reload, args=(journal,), daemon=True)
        self._reloads.start()

    def stop(self) -> None:
        """End the reloads."""
        self._over.set()
        self._reloads.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._nginx.stop()

    def _reload(self, journal: Journal) -> None:
        while not self._over.wait(self._every_s):
            self._nginx.reload()
            journal.write("reloaded")
