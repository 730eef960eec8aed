"""Runs the server or a worker, and migrates their database."""

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

_SHUTDOWN_GRACE_S = 15
_GC_THRESHOLD_OBJECTS = 20_000
_BACKLOG = 2_048


def serve(port: int | None) -> None:
    """Serve the API until SIGTERM or Ctrl-C, then finish the open requests. `port` overrides the setting."""
    settings = _prepare()
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    listener = _listen(settings.host, settings.port, "LOYALPRO_PORT")
    _run_server(Application(settings).web, listener)


def _prepare() -> Settings:
    """The settings, after the setup of logs and of the limit of open files."""
    settings = load()
    configure_logs(settings)
    raise_limit()
    return settings


def _run_server(app: FastAPI, listener: socket.socket) -> None:
    """Serve an application on a socket until SIGTERM or Ctrl-C."""
    host, port, *_ = listener.getsockname()
    structlog.get_logger("server").info("listening", address=f"http://{f'[{host}]' if ':' in host else host}:{port}")
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_GRACE_S,
        timeout_keep_alive=30,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    _tune_garbage_collection()
    server.run(sockets=[listener])
    if not server.started:
        raise ConfigurationError("The server did not start; the lines above say why.")


def _tune_garbage_collection() -> None:
    """Collect less often: a batch makes tens of thousands of objects that live until it ends, so early runs free none."""
    gc.collect()
    gc.freeze()  # the loaded modules live as long as the process
    gc.set_threshold(_GC_THRESHOLD_OBJECTS, 10, 10)


def work() -> None:
    """Deliver webhooks until SIGTERM or Ctrl-C, then finish the attempts that are being sent."""
    settings = _prepare()
    if not settings.is_postgres:
        raise ConfigurationError(
            "A worker needs PostgreSQL: set LOYALPRO_DATABASE_URL. On SQLite, `loyalpro serve` delivers by itself."
        )
    if settings.worker_address is None:
        uvloop.run(_work(Application(settings)))
    else:
        listener = _listen(*settings.worker_address, "LOYALPRO_WORKER_LISTEN")
        _run_server(Application(settings).watch, listener)


async def _work(application: Application) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with application.working():
        await stop.wait()


def migrate() -> list[str]:
    """Apply the missing migrations; their names."""
    return migrate_database(load().url, SystemClock(), lambda line: print(line, flush=True))


def _listen(host: str, port: int, variable: str) -> socket.socket:
    """A listening socket. Clients can connect at once, and are served when the application has started."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}:{port} ({error.strerror}). "
            f"Stop the process that listens there, or choose another port with {variable}."
        ) from None
    listener.set_inheritable(True)
    return listener
