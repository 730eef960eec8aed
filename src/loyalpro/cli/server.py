"""Runs the server or a worker, and prepares their database."""

import asyncio
import gc
import signal
import socket

import structlog
import uvicorn
import uvloop

from loyalpro.app import Application, configure_logs
from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.settings import Settings, load
from loyalpro.storage.open import migrate_database

_GRACE_S = 15
_NEW_OBJECTS = 20_000


def serve(port: int | None) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what is under way."""
    settings = load()
    configure_logs(settings)
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    listener = _listen(settings)
    application = Application(settings)
    structlog.get_logger("server").info("listening", address=f"http://{settings.host}:{listener.getsockname()[1]}")
    config = uvicorn.Config(
        application.web,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=30,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    _collect_garbage_seldom()
    server.run(sockets=[listener])
    if not server.started:
        raise ConfigurationError("The server did not start; the lines above say why.")


def _collect_garbage_seldom() -> None:
    """A batch makes tens of thousands of objects that all live until it ends: looking at them again and again is waste."""
    gc.collect()
    gc.freeze()  # what has been loaded by now stays
    gc.set_threshold(_NEW_OBJECTS, 10, 10)


def work() -> None:
    """Deliver until SIGTERM or Ctrl-C, then finish what is under way."""
    settings = load()
    configure_logs(settings)
    if not settings.is_postgres:
        raise ConfigurationError(
            "A worker needs PostgreSQL: set LOYALPRO_DATABASE_URL. On SQLite, `loyalpro serve` delivers by itself."
        )
    uvloop.run(_work(Application(settings)))


async def _work(application: Application) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with application.running():
        structlog.get_logger("worker").info("working")
        await stop.wait()


def migrate() -> list[str]:
    """Apply what is missing; the names of what was applied."""
    return migrate_database(load().url, SystemClock())


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {settings.host}:{settings.port} ({error.strerror}). "
            "Stop what is listening there, or choose another with LOYALPRO_PORT."
        ) from None
    listener.set_inheritable(True)
    return listener
