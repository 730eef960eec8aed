"""What a merchant's developer would write: an HTTPS server that verifies every delivery and prints it."""

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from loyalpro.cli.demo.certificates import Certificates

_LARGEST_BODY = 65_536


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery, verified or not."""

    body: dict[str, Any]
    verified: bool


def verified(secret: str, headers: Any, body: bytes) -> bool:
    """Both signatures: the hex HMAC of the body, and Standard Webhooks."""
    plain = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    standard = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    offered = (headers.get("webhook-signature") or "").split(" ")
    return hmac.compare_digest(plain.encode(), (headers.get("x-loyalpro-signature") or "").encode()) and any(
        hmac.compare_digest(standard.encode(), each.encode()) for each in offered
    )


class Receiver:
    """Listens on a free port of this machine; every delivery goes to `on_received`."""

    def __init__(self, certificates: Certificates, on_received: Callable[[Received], None]) -> None:
        self.secret = ""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = self.rfile.read(min(length, _LARGEST_BODY))
                good = verified(receiver.secret, self.headers, body)
                on_received(Received(json.loads(body), good))
                answer = json.dumps({"received": good}).encode()
                self.send_response(200 if good else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing: the demo prints deliveries itself."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain_file, certificates.key_file)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://localhost:{self._server.server_address[1]}/webhooks"

    def start(self) -> None:
        """Serve from a thread of its own."""
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
