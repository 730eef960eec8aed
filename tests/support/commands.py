"""Runs `loyalpro` commands as processes of their own, at the price of a fork: the program is imported once."""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CAPABILITIES_V3 = 0x20080522
_TIME_LIMIT_S = 60


@dataclass(frozen=True)
class Finished:
    """The end of a process. A negative status is the number of the signal that ended it."""

    status: int
    stdout: str
    stderr: str


class Commands:
    """A process that has imported the program, and forks for each command."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment({}), text=True
        )

    def run(self, command: str, folder: Path, environment: dict[str, str], *, privileged: bool = True) -> Finished:
        """Run `loyalpro` with this command, in this folder, and with these variables and no other of LoyalPro.

        Without privileges, the permissions of files apply to root as well.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            case = {
                "arguments": command.split(),
                "folder": str(folder),
                "environment": environment,
                "privileged": privileged,
                "files": [f"/proc/{os.getpid()}/fd/{each.fileno()}" for each in (stdout, stderr)],
            }
            self._process.stdin.write(json.dumps(case) + "\n")
            self._process.stdin.flush()
            status = int(self._process.stdout.readline())
            texts = []
            for each in (stdout, stderr):
                each.seek(0)
                texts.append(each.read().decode())
        return Finished(status, *texts)

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(_TIME_LIMIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _environment(environment: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOYALPRO_")}
    return kept | environment


def _serve() -> None:
    """Fork for each line of stdin, and print the status of each command."""
    from loyalpro.cli import server
    from loyalpro.cli.demo import show
    from loyalpro.cli.main import app

    assert server
    assert show
    for line in sys.stdin:
        case = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(case)
            _run(app, case["arguments"])
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


def _become(case: dict[str, Any]) -> None:
    """Turn the forked process into one that was started for this case."""
    import signal

    signal.alarm(_TIME_LIMIT_S)
    for number, path in enumerate(case["files"], start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    environment = _environment(case["environment"])
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(case["folder"])
    if not case["privileged"]:
        _drop_capabilities()


def _run(app: Callable[..., None], arguments: list[str]) -> None:
    """Run the command, and end the process with its status, without the second that Python takes to free the modules."""
    status = 1
    try:
        app(arguments, prog_name="loyalpro")
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - Python prints the trace of any other error and exits with 1
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    _serve()
