"""A real PgBouncer in front of a database."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from support.debian import program
from support.postgres import free_port, unprivileged
from support.proxy import address_of, at_port
from support.waiting import until


class PgBouncer:
    """A pooler that the constructor starts; `url` leads through it to the database of `dsn`."""

    def __init__(self, dsn: str, pool_mode: str, **options: str) -> None:
        host, port = address_of(dsn)
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        self._port = free_port()
        self.url = at_port(dsn, self._port)
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self._port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": pool_mode,
            "default_pool_size": "30",
            **options,
        }
        user = dsn.partition("://")[2].partition("@")[0].partition(":")[0]
        lines = ["[databases]", f"* = host={host} port={port} user={user}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        (self._folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        self._process = self._start()
        until(self._accepts)

    def restart(self) -> None:
        """End it with all of its connections, and start it again."""
        self._end()
        self._process = self._start()
        until(self._accepts)

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _start(self) -> "subprocess.Popen[bytes]":
        user = unprivileged() if os.geteuid() == 0 else None  # PgBouncer refuses to run as root
        if user:
            shutil.chown(self._folder, user)
        with (self._folder / "log").open("wb") as log:
            return subprocess.Popen(
                [program("pgbouncer", "pgbouncer"), str(self._folder / "pgbouncer.ini")],
                user=user,
                group=pwd.getpwnam(user).pw_gid if user else None,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def _accepts(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"PgBouncer ended: {(self._folder / 'log').read_text()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        shutil.rmtree(self._folder)
