"""TCP proxies in front of PostgreSQL: one closes the connection of the client at a COMMIT, one can freeze."""

import socket
import threading
from contextlib import suppress


class CuttingProxy:
    """Forwards all bytes. `cut_after_commit` and `hold_commit` each apply to the next COMMIT."""

    def __init__(self, dsn: str) -> None:
        self._target = address_of(dsn)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = at_port(dsn, self._listener.getsockname()[1])
        self._armed = threading.Event()
        self._holds = False
        self._held = threading.Event()
        self._end = threading.Event()
        self._commits = True
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after_commit(self) -> None:
        """Close the client's connection at the next COMMIT, and send that COMMIT to the server."""
        self._armed.set()

    def hold_commit(self) -> None:
        """Close the client's connection at the next COMMIT, and hold that COMMIT back, so that its transaction keeps its locks."""
        self._holds = True
        self._armed.set()

    def end_held(self, *, commits: bool) -> None:
        """Send the held COMMIT to the server, or close the connection to the server without it."""
        assert self._held.wait(30)
        self._commits = commits
        self._end.set()

    def __enter__(self) -> "CuttingProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                if self._armed.is_set() and b"COMMIT" in data:
                    self._armed.clear()
                    client.shutdown(socket.SHUT_RDWR)  # the client receives nothing from here on
                    if not self._wait_for_decision():
                        break
                    server.sendall(data)
                    while server.recv(65_536):  # the response of PostgreSQL: the commit is done
                        server.shutdown(socket.SHUT_WR)
                    break
                server.sendall(data)
        for each in (client, server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _wait_for_decision(self) -> bool:
        if self._holds:
            self._held.set()
            assert self._end.wait(60)
        return self._commits

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


class FreezingProxy:
    """Forwards all bytes until it freezes: then connections stay open, new ones are accepted, and no byte passes any more."""

    def __init__(self, dsn: str) -> None:
        self._target = address_of(dsn)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = at_port(dsn, self._listener.getsockname()[1])
        self._passes = threading.Event()
        self._passes.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Hold everything back from now on."""
        self._passes.clear()

    def thaw(self) -> None:
        """Forward what was held back, and go on."""
        self._passes.set()

    def __enter__(self) -> "FreezingProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._target) as server:
            back = threading.Thread(target=self._forward, args=(server, client), daemon=True)
            back.start()
            self._forward(client, server)
            back.join()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._passes.wait()
                target.sendall(data)
        self._passes.wait()
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def address_of(dsn: str) -> tuple[str, int]:
    """The host and the port in the URL of a database."""
    host, _, port = dsn.rpartition("@")[2].partition("/")[0].partition(":")
    return host, int(port)


def at_port(dsn: str, port: int) -> str:
    """The URL of the same database at another port of this machine."""
    head, _, tail = dsn.rpartition("@")
    return f"{head}@127.0.0.1:{port}/{tail.partition('/')[2]}"
