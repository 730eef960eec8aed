"""Runs the server or a worker, and migrates their database."""

import asyncio
import gc
import signal
import socket
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from loyalpro.app import Application, configure_logs
from loyalpro.cli.bounded_http import BoundedHttp
from loyalpro.cli.listener import listen
from loyalpro.cli.open_files import raise_limit
from loyalpro.cli.remote import warn
from loyalpro.kernel.clock import Clock, SystemClock
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.settings import Settings, load, unknown_settings
from loyalpro.storage.open import migrate_database

_SHUTDOWN_GRACE_S = 15
_GC_THRESHOLD_OBJECTS = 200_000
_SWITCH_S = 0.001
"""After how long a thread that computes lets another one run. Beside a busy writer, a request waits several times for its turn,
and with the 5 ms of Python each wait is as long as the whole request on an idle server."""


def serve(port: int | None, clock: Clock | None = None) -> None:
    """Serve the API until SIGTERM or Ctrl-C, then finish the open requests. `port` overrides the setting.

    `clock` None: the clock of the machine.
    """
    settings = _prepare()
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    listener = listen(settings.host, settings.port, "LOYALPRO_PORT", "LOYALPRO_HOST")
    application = Application(settings, clock)
    _run_server(application.web, application.running(), listener)


def _prepare() -> Settings:
    """The settings, after the setup of logs and of the limit of open files."""
    settings = load()
    configure_logs(settings)
    for unknown in unknown_settings():
        structlog.get_logger("server").warning("unknown_variable", variable=unknown.name, advice=unknown.advice)
    raise_limit()
    return settings


class _Server(uvicorn.Server):
    """Keeps the parts of the application running while it serves. An error of their start is raised by `run`.

    The lifespan protocol of ASGI would turn that error into a text, which is logged with its trace.
    """

    def __init__(self, config: uvicorn.Config, running: AbstractAsyncContextManager[None]) -> None:
        super().__init__(config)
        self._running = running
        self._parts = AsyncExitStack()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the parts, and then accept requests."""
        await self._parts.enter_async_context(self._running)
        await super().startup(sockets)
        for each in sockets or ():
            host, port, *_ = each.getsockname()
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            structlog.get_logger("server").info("listening", address=address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests, and then stop the parts."""
        await super().shutdown(sockets)
        if not self.force_exit:
            await self._parts.aclose()


def _run_server(app: FastAPI, running: AbstractAsyncContextManager[None], listener: socket.socket) -> None:
    """Serve an application on a socket until SIGTERM or Ctrl-C, with the parts that it needs running."""
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_GRACE_S,
        timeout_keep_alive=30,
        lifespan="off",
    )
    _tune_garbage_collection()
    sys.setswitchinterval(_SWITCH_S)
    _Server(config, running).run(sockets=[listener])


def _tune_garbage_collection() -> None:
    """Collect less often: a large batch makes 100,000 objects and more that live until it ends, so early runs free none."""
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
        listener = listen(*settings.worker_address, "LOYALPRO_WORKER_LISTEN", "LOYALPRO_WORKER_LISTEN")
        application = Application(settings)
        _run_server(application.watch, application.working(), listener)


async def _work(application: Application) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with application.working():
        await stop.wait()


def migrate() -> list[str]:
    """Apply the missing migrations; their names."""
    settings = load()
    warn(unknown_settings())
    return migrate_database(settings.url, SystemClock(), lambda line: print(line, flush=True))
