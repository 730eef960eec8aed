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
from typing import Any

from loyalpro.cli.demo.certificates import Certificates

_MAX_BODY_BYTES = 65_536


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


class Receiver:
    """Listens on a free port of localhost, and calls `on_received` for each delivery, on a thread of the server."""

    def __init__(self, certificates: Certificates, on_received: Callable[[Received], None]) -> None:
        self.secret = ""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = self.rfile.read(min(length, _MAX_BODY_BYTES))
                is_verified = verified(receiver.secret, self.headers, body)
                on_received(Received(json.loads(body), is_verified))
                response = json.dumps({"received": is_verified}).encode()
                self.send_response(200 if is_verified else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(response)))
                self.end_headers()
                self.wfile.write(response)

            def log_message(self, *_: object) -> None:
                """Log nothing: the demo prints each delivery itself."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain_file, certificates.key_file)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://localhost:{self._server.server_address[1]}/webhooks"

    def start(self) -> None:
        """Start to serve, on a thread."""
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
