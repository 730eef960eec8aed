"""A TCP proxy between LoyalPro and PostgreSQL that can break connections at chosen points of the protocol."""

import socket
import threading
from contextlib import suppress

_COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"
"""PostgreSQL's CommandComplete: the commit is durable, and only this message tells the client."""
_IN_TRANSACTION = b"Z\x00\x00\x00\x05T"
"""ReadyForQuery inside a transaction."""


class Proxy:
    """Forwards all bytes, except while a cut or a partition is active."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._armed: bytes | None = None
        self._mutex = threading.Lock()
        self._fired = threading.Event()
        self._flowing = threading.Event()
        self._flowing.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after_commit(self, within_s: float) -> bool:
        """Break the connection that commits next: the commit is done, and its client does not get the answer."""
        return self._cut(_COMMITTED, within_s)

    def cut_in_transaction(self, within_s: float) -> bool:
        """Break a connection inside a transaction, possibly while COMMIT is being sent."""
        return self._cut(_IN_TRANSACTION, within_s)

    def hold(self) -> None:
        """Begin a partition: forward nothing."""
        self._flowing.clear()

    def release(self) -> None:
        """End the partition: forward everything that has waited."""
        self._flowing.set()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _cut(self, at: bytes, within_s: float) -> bool:
        self._fired.clear()
        with self._mutex:
            self._armed = at
        fired = self._fired.wait(within_s)
        with self._mutex:
            self._armed = None
        return fired

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        for line in (client, server):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
        self._pump(server, client, watched=True)

    def _pump(self, source: socket.socket, sink: socket.socket, *, watched: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._flowing.wait()
                if watched and self._armed is not None and self._is_cut(data):
                    break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _is_cut(self, data: bytes) -> bool:
        """Whether this connection is the one to break: only the first that sends the message."""
        with self._mutex:
            if self._armed is None or self._armed not in data:
                return False
            self._armed = None
        self._fired.set()
        return True
