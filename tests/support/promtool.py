"""`promtool` of Prometheus, which checks metrics and rules: of the system, else installed from Debian where that is possible."""

import os
import shutil
import subprocess
from functools import cache

_MISSING = (
    "promtool was not found. Install Prometheus 2.42 or newer: on Debian and Ubuntu `apt-get install prometheus` (the tests do so "
    "when they run as root), else from https://prometheus.io/download/."
)


@cache
def promtool() -> str:
    """The path of promtool."""
    if shutil.which("promtool") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt_get("update")
        _apt_get("install", "--yes", "--no-install-recommends", "prometheus")
    found = shutil.which("promtool")
    if found is None:
        raise RuntimeError(_MISSING)
    return found


def _apt_get(*arguments: str) -> None:
    """Run apt-get. It must not start the Prometheus that it installs, so the policy of the system forbids that meanwhile."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "-qq", *arguments], env=environment, stdout=subprocess.DEVNULL, timeout=600, check=False)
