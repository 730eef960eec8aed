"""HTTPS receivers for tests. They record each request, and a script decides what they respond."""

import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


class Authority:
    """A certificate authority for tests, which also issues faulty certificates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self._made = 0
        self.ca_file = folder / "ca.pem"
        certificate = self._certificate(self._name, self._key, None, -DAY, DAY * 30, ca=True)
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context(
        self,
        *names: str,
        starts: dt.timedelta = -DAY,
        ends: dt.timedelta = DAY * 30,
        self_signed: bool = False,
        newest: ssl.TLSVersion | None = None,
        common_name: str = "Test receiver",
        named: bool = True,
    ) -> ssl.SSLContext:
        """A TLS context for a server, with such a certificate."""
        file = self.certificate_file(
            *names, starts=starts, ends=ends, self_signed=self_signed, common_name=common_name, named=named
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if newest is not None:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = newest
        return context

    def certificate_file(
        self,
        *names: str,
        starts: dt.timedelta = -DAY,
        ends: dt.timedelta = DAY * 30,
        self_signed: bool = False,
        common_name: str = "Test receiver",
        named: bool = True,
    ) -> Path:
        """A file with a key and a certificate for these names (by default localhost and 127.0.0.1).

        Without `named` the certificate has no alternative names, but only its common name.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        alternatives = names or ("localhost", "127.0.0.1") if named else None
        certificate = self._certificate(subject, key, alternatives, starts, ends, self_signed=self_signed)
        self._made += 1
        file = self._folder / f"receiver-{self._made}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file

    def _certificate(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        names: tuple[str, ...] | None,
        starts: dt.timedelta,
        ends: dt.timedelta,
        *,
        ca: bool = False,
        self_signed: bool = False,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self_signed else self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + starts)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
        return builder.sign(key if self_signed else self._key, hashes.SHA256())


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass
class Hit:
    """One received request."""

    head: str
    headers: dict[str, str]
    body: bytes


Script = Callable[[socket.socket, Hit | None], None]


def answer(status: int, body: bytes = b'{"received":true}', /, **headers: str) -> bytes:
    """The bytes of an HTTP response."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class RawServer:
    """A server on 127.0.0.1 with one thread for each connection.

    With `reads`, `script` is called for each request of a connection; without, once for each connection, before any read.
    """

    script: Script
    context: ssl.SSLContext | None = None
    reads: bool = True
    hits: list[Hit] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self.ending = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The URL of its webhook path."""
        return f"https://localhost:{self.port}/hook"

    def wait_for(self, count: int, timeout_s: float = 30) -> list[Hit]:
        """The requests, once at least `count` have arrived."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.hits) >= count, timeout_s):
                raise AssertionError(f"only {len(self.hits)} of {count} requests came within {timeout_s} s")
            return list(self.hits)

    def wait_for_connections(self, count: int, timeout_s: float = 30) -> None:
        """Return once `count` connections have been opened."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.connections >= count, timeout_s):
                raise AssertionError(f"only {self.connections} of {count} connections came within {timeout_s} s")

    def open_connections(self) -> set[socket.socket]:
        """The connections that have not ended."""
        return set(self._open)

    def stop(self) -> None:
        """Close the listener and all connections."""
        self.ending.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "RawServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.connections += 1
                self._changed.notify_all()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        self._open.add(plain)
        connection = plain
        with suppress(OSError, ValueError):
            if self.context is not None:
                connection = self.context.wrap_socket(plain, server_side=True)
                self._open.discard(plain)
                self._open.add(connection)
            if not self.reads:
                self.script(connection, None)
            else:
                self._serve_requests(connection)
        self._open.discard(connection)
        with suppress(OSError):
            connection.close()

    def _serve_requests(self, connection: socket.socket) -> None:
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                data = connection.recv(65_536)
                if not data:
                    return
                buffer += data
            raw, _, buffer = buffer.partition(b"\r\n\r\n")
            head, *lines = raw.decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            lower = {name.lower(): value for name, value in headers.items()}
            while len(buffer) < int(lower.get("content-length", "0")):
                buffer += connection.recv(65_536)
            length = int(lower.get("content-length", "0"))
            hit, buffer = Hit(head, headers, buffer[:length]), buffer[length:]
            with self._changed:
                self.hits.append(hit)
                self._changed.notify_all()
            self.script(connection, hit)


def good(connection: socket.socket, _: Hit | None) -> None:
    """A script that responds 200."""
    connection.sendall(answer(200))


def answering(*statuses: int, **headers: str) -> Script:
    """A script that responds with these statuses in turn, and then always with the last one."""
    left = list(statuses)

    def script(connection: socket.socket, _: Hit | None) -> None:
        status = left.pop(0) if len(left) > 1 else left[0]
        connection.sendall(answer(status, b'{"received":true}', **headers))

    return script


@dataclass
class Responder:
    """A script whose status a test can change at any time, and which a test can hold."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._free = threading.Event()
        self._free.set()

    def hold(self) -> None:
        """Send no response until `release`."""
        self._free.clear()

    def release(self) -> None:
        """Send the held responses, and all later ones at once."""
        self._free.set()

    def __call__(self, connection: socket.socket, _: Hit | None) -> None:
        self._free.wait(60)
        connection.sendall(answer(self.status, b"{}", **self.headers))


def bodies(hits: list[Hit]) -> list[dict[str, object]]:
    """The JSON bodies of the requests."""
    return [json.loads(hit.body) for hit in hits]


def hold(connection: socket.socket, _: Hit | None) -> None:
    """A script that sends no response until the client closes the connection."""
    while connection.recv(4_096):
        pass
