"""An HTTPS server that verifies each delivery, as the developer of a merchant would write it."""

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from loyalpro.cli.demo.certificates import Certificates

PATH: Final = "/webhooks"
"""The path whose deliveries are printed."""
_MAX_BODY_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Received:
    """The body of a delivery, and whether both of its signatures are valid."""

    body: dict[str, Any]
    verified: bool


def verified(secret: str, headers: Any, body: bytes) -> bool:
    """Whether both signatures are valid: the hex HMAC of the body, and the one of Standard Webhooks."""
    plain = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    standard = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    offered = (headers.get("webhook-signature") or "").split(" ")
    return hmac.compare_digest(plain.encode(), (headers.get("x-loyalpro-signature") or "").encode()) and any(
        hmac.compare_digest(standard.encode(), each.encode()) for each in offered
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """How a receiver answers."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def answer_to(headers: Any, body: bytes, secret: str, *, is_down: bool) -> Answer:
    """What a receiver answers: an error while it is down, and otherwise whether the delivery is genuine.

    `headers`: a mapping with the names in small letters, or one that does not tell capital letters from small ones.
    """
    if is_down:
        text = b"The database of this application does not answer.\n"
        return Answer(503, (("Content-Type", "text/plain"), ("Content-Length", str(len(text)))), text)
    is_genuine = bool(secret) and verified(secret, headers, body)
    answer = json.dumps({"received": is_genuine}).encode()
    fields = (("Content-Type", "application/json"), ("Content-Length", str(len(answer))))
    return Answer(200 if is_genuine else 401, fields, answer)


class Receiver:
    """Listens on a port of localhost, and calls `on_received` for each delivery to `/webhooks`, on a thread of the server.

    `port`: where it listened before; another one when something else is there now. `secrets`: the secret of each path.
    The application at `down` answers with an error.
    """

    def __init__(
        self, certificates: Certificates, on_received: Callable[[Received], None], *, port: int = 0, down: str = ""
    ) -> None:
        self.secrets: dict[str, str] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = self.rfile.read(min(length, _MAX_BODY_BYTES))
                answer = answer_to(self.headers, body, receiver.secrets.get(self.path, ""), is_down=self.path == down)
                if self.path == PATH:
                    on_received(Received(json.loads(body), answer.status == 200))
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                """Log nothing: the demo prints each delivery itself."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain_file, certificates.key_file)
        self._server = _listening(port, Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = int(self._server.server_address[1])
        self.url = f"https://localhost:{self.port}"

    def start(self) -> None:
        """Start to serve, on a thread."""
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


def _listening(port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server on this port of localhost, or on a free one when it is taken."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError:
        if not port:
            raise
        return ThreadingHTTPServer(("127.0.0.1", 0), handler)
