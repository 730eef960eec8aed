"""Serves the receiver in the file that is named, on a free port that it prints. What the receiver prints comes after it."""

import asyncio
import importlib.util
import socket
import sys
from types import ModuleType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *_: Any) -> None:
        """Keep the line."""


def tell(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def loaded(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("receiver", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["receiver"] = module
    spec.loader.exec_module(module)
    return module


def serve_django() -> None:
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application

    middleware = ["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"]
    settings.configure(ROOT_URLCONF="receiver", ALLOWED_HOSTS=["127.0.0.1"], MIDDLEWARE=middleware, SECRET_KEY="x")
    serve_wsgi(get_wsgi_application())


def serve_wsgi(app: Any) -> None:
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        tell(server.server_port)
        server.serve_forever()


def serve_asgi(app: Any) -> None:
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        tell(listener.getsockname()[1])
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        asyncio.run(server.serve([listener]))


receiver = loaded(sys.argv[1])
if hasattr(receiver, "urlpatterns"):
    serve_django()
elif hasattr(receiver.app, "wsgi_app"):
    serve_wsgi(receiver.app)
else:
    serve_asgi(receiver.app)
