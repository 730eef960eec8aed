"""Programs that tests need beyond PyPI: found on the machine, or installed from Debian."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_ALSO = (Path("/usr/sbin"), Path("/usr/local/sbin"), Path("/sbin"))


def program(name: str, package: str) -> Path:
    """The path of a program. Root installs the Debian package that has it; everybody else is told to."""
    found = find(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install(name, package)
        found = find(name)
    if found is None:
        raise AssertionError(f"{name} is missing. Install it, for example with: sudo apt-get install {package}")
    return found


def find(name: str) -> Path | None:
    """The path of a program that is installed."""
    folders = [os.environ.get("PATH", ""), *map(str, _ALSO)]
    found = shutil.which(name, path=os.pathsep.join(folders))
    return Path(found) if found else None


def _install(name: str, package: str) -> None:
    """Install a package once, whichever process of the suite needs it first."""
    with (Path(tempfile.gettempdir()) / f"loyalpro-tests-{os.geteuid()}.apt").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if find(name) is not None:
            return
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(["apt-get", "-q", *arguments], env=environment, check=False, stdout=subprocess.DEVNULL)
