"""Runs the operator's commands: through the socket of the running server on SQLite, else on the database itself."""

import asyncio
import os
import pwd
from pathlib import Path
from typing import Any, Final

from loyalpro.app import Application, configure_logs
from loyalpro.cli.remote import warn
from loyalpro.control import client, wire
from loyalpro.control.control_socket import socket_path
from loyalpro.kernel.clock import Clock, SystemClock
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.settings import Settings, load, unknown_settings
from loyalpro.storage.sqlite.database import FolderInUse

_TRIES: Final = 25
_PAUSE_S: Final = 0.2


def administer(request: wire.Request) -> Any:
    """The result of a request. Raises `LoyalProError`."""
    settings = load()
    warn(unknown_settings())
    configure_logs(settings)
    line = wire.encode(request)
    work = _on_the_database(settings, line) if settings.is_postgres else _on_sqlite(settings, line, SystemClock())
    return wire.result_of(asyncio.run(work))


async def _on_sqlite(settings: Settings, line: bytes, clock: Clock) -> bytes:
    """A server that starts or stops has the file open and does not listen: it is asked again for a few seconds."""
    path = settings.sqlite_path
    for _ in range(_TRIES):
        reply = client.call(socket_path(path), line)
        if reply is not None:
            return reply
        require_own_file(path, os.geteuid())
        try:
            return await _on_the_database(settings, line)
        except FolderInUse:
            await clock.wait(asyncio.Event(), _PAUSE_S)
    raise ConfigurationError(
        f"A server has {path} open, and does not listen at {socket_path(path)}; its log may say why: "
        "control_socket_unavailable. Stop the server, and repeat this command."
    )


async def _on_the_database(settings: Settings, line: bytes) -> bytes:
    async with Application(settings).administering() as administration:
        return await administration.answer(line)


def require_own_file(path: Path, user_id: int) -> None:
    """A missing file is more often a wrong variable than a wish, and files of root would stop the server's user later."""
    try:
        owner = path.stat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(
            f"There is no database {path}. Set LOYALPRO_DATA_DIR or LOYALPRO_DATABASE_URL as for the server; a new database "
            "is created by: loyalpro serve"
        ) from None
    if owner != user_id:
        name = _user_name(owner)
        raise ConfigurationError(
            f"The database {path} belongs to the user {name}. Run this command as {name}: sudo -u {name} loyalpro ..."
        )


def _user_name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"#{user_id}"
