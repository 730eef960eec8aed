"""Installs lifetimes, with which the tests check the churn models, and which carries the CDNOW purchases.

`python -m scripts.oracle` prints the folder of its virtual environment. The environment is apart from that of the product,
because lifetimes needs numpy, pandas and scipy, and warns of what they have deprecated. It is made once for each
`requirements/oracle.txt` and each version of Python, in `build`; several processes may ask for it at the same time.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent
_REQUIREMENTS: Final = _ROOT / "requirements" / "oracle.txt"
_BUILD: Final = _ROOT / "build"


class OracleMissing(Exception):
    """lifetimes is not installed and could not be installed. The message has what uv says, and what to set."""


def environment() -> Path:
    """The folder of the virtual environment, made if it is missing. Raises `OracleMissing` where it cannot be made."""
    digest = hashlib.sha256(sys.version.encode() + _REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = _BUILD / f"oracle-{digest}"
    complete = folder / "complete"
    _BUILD.mkdir(exist_ok=True)
    with (_BUILD / "oracle.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder)
            complete.touch()
    return folder


def python() -> Path:
    """The Python that can import lifetimes."""
    return environment() / "bin" / "python"


def datasets() -> Path:
    """The folder with the data that lifetimes carries, `CDNOW_sample.txt` among them."""
    (folder,) = environment().glob("lib/python3*/site-packages/lifetimes/datasets")
    return folder


def _install(folder: Path) -> None:
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    _uv("pip", "install", "--quiet", "--python", str(folder), "--require-hashes", "-r", str(_REQUIREMENTS))


def _uv(*arguments: str) -> None:
    """Run uv with the package index of pip."""
    command = [sys.executable, str(_ROOT / "scripts" / "install.py"), "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OracleMissing(f"lifetimes, which the tests of churn need, could not be installed.\n{done.stderr}")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{environment()}\n")
    except OracleMissing as error:
        sys.exit(str(error))
