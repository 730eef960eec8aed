"""Runs the server or a worker, and prepares their database."""

import asyncio
import gc
import signal
import socket

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from loyalpro.app import Application, configure_logs
from loyalpro.cli.bounded_http import BoundedHttp
from loyalpro.cli.open_files import raise_limit
from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.settings import Settings, load
from loyalpro.storage.open import migrate_database

_GRACE_S = 15
_NEW_OBJECTS = 20_000
_BACKLOG = 2_048


def serve(port: int | None) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what is under way."""
    settings = _prepared()
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    listener = _listen(settings.host, settings.port, "LOYALPRO_PORT")
    _answer(Application(settings).web, listener)


def _prepared() -> Settings:
    """The settings, once the process is set up as they and its work ask for."""
    settings = load()
    configure_logs(settings)
    raise_limit()
    return settings


def _answer(app: FastAPI, listener: socket.socket) -> None:
    """Answer whoever calls, and do what belongs to the application meanwhile, until it is told to stop."""
    host, port, *_ = listener.getsockname()
    structlog.get_logger("server").info("listening", address=f"http://{f'[{host}]' if ':' in host else host}:{port}")
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
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
    settings = _prepared()
    if not settings.is_postgres:
        raise ConfigurationError(
            "A worker needs PostgreSQL: set LOYALPRO_DATABASE_URL. On SQLite, `loyalpro serve` delivers by itself."
        )
    if settings.worker_address is None:
        uvloop.run(_work(Application(settings)))
    else:
        listener = _listen(*settings.worker_address, "LOYALPRO_WORKER_LISTEN")
        _answer(Application(settings).watch, listener)


async def _work(application: Application) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with application.working():
        await stop.wait()


def migrate() -> list[str]:
    """Apply what is missing; the names of what was applied."""
    return migrate_database(load().url, SystemClock())


def _listen(host: str, port: int, variable: str) -> socket.socket:
    """Whoever calls from now on is let in as soon as there is somebody to answer."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}:{port} ({error.strerror}). "
            f"Stop what is listening there, or choose another with {variable}."
        ) from None
    listener.set_inheritable(True)
    return listener
