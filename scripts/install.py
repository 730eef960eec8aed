"""Installs locked packages into the virtual environment of the Python that runs it: `install.py pip|uv requirements.txt`.

`install.py run ...` runs uv with any other arguments. pip installs uv, and uv the rest. uv does not read the settings of pip,
so this translates those that say how to reach the package index: certificates, index, proxy. A machine where `pip install`
works needs nothing else.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_SECTIONS: Final = ("global", "install", ":env:")
"""Where pip finds an option; the last one counts."""
_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_SYSTEM_STORE_SINCE: Final = (24, 2)
"""The version of pip that trusts the certificates of the system, as well as its own."""
_UV: Final = str(Path(sys.executable).with_name("uv"))
_PYPI: Final = "https://pypi.org/simple"
_ADVICE: Final = """
The packages could not be installed; the lines above say why. They come from {index}.
  a certificate authority of your own   export PIP_CERT=/path/to/authorities.pem
                                        (that of the system: /etc/ssl/certs/ca-certificates.crt on Debian)
  a proxy                               export HTTPS_PROXY=http://proxy.example.com:3128
  a mirror of PyPI                      export PIP_INDEX_URL=https://pypi.example.com/simple
The settings of pip (pip config list) count as well. Then run make again.
"""


def pip_options() -> dict[str, str]:
    """The options of pip, from its variables and its files: `{"cert": "/path", "index-url": "https://..."}`."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if section in found:
            found[section][option] = str(ast.literal_eval(value))
    return {option: value for section in _SECTIONS for option, value in found[section].items() if value}


def bundle(options: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    """The file or folder with the certificate authorities to trust; None for those that the programs bring along."""
    return options.get("cert") or next((environ[name] for name in _BUNDLES if environ.get(name)), None)


def pip_environment(options: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """What pip needs besides its own settings: older versions do not read `SSL_CERT_FILE`."""
    trusted = bundle(options, environ)
    return {"PIP_CERT": trusted} if trusted else {}


def uv_environment(
    options: Mapping[str, str], environ: Mapping[str, str], pip_version: tuple[int, ...]
) -> dict[str, str]:
    """The variables with which uv reaches the package index as pip does. Variables of uv that are set already stay."""
    wanted = {
        "UV_DEFAULT_INDEX": options.get("index-url"),
        "UV_INDEX": _words(options, "extra-index-url"),
        "UV_INDEX_STRATEGY": "unsafe-best-match" if "extra-index-url" in options else None,  # the hashes make it safe
        "UV_FIND_LINKS": _words(options, "find-links", ","),
        "UV_INSECURE_HOST": _words(options, "trusted-host"),
        "UV_HTTP_TIMEOUT": options.get("timeout") or options.get("default-timeout"),
        "SSL_CLIENT_CERT": options.get("client-cert"),
    }
    found = {name: value for name, value in wanted.items() if value and not environ.get(name)}
    if proxy := options.get("proxy"):
        address = proxy if "://" in proxy else f"http://{proxy}"
        found |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), address)
    if trusted := bundle(options, environ):
        found["SSL_CERT_DIR" if Path(trusted).is_dir() else "SSL_CERT_FILE"] = trusted
    elif pip_version >= _SYSTEM_STORE_SINCE:
        found.setdefault("UV_SYSTEM_CERTS", "1")
    return found


def _words(options: Mapping[str, str], option: str, separator: str = " ") -> str:
    return separator.join(options.get(option, "").split())


def _pip_version() -> tuple[int, ...]:
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, check=True
    ).stdout
    return tuple(map(int, re.findall(r"\d+", shown)[:2]))


def _command(tool: str, requirements: Path, options: Mapping[str, str]) -> list[str]:
    """The command line. At a terminal, the tools show their progress."""
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    if tool == "pip":
        start = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    else:
        start = [_UV, "pip", "install", "--python", sys.executable]
        start += ["--no-index"] if options.get("no-index", "").lower() in ("1", "true", "yes", "on") else []
    return [*start, *quiet, "--require-hashes", "-r", str(requirements)]


def _shown_index(options: Mapping[str, str]) -> str:
    """The address of the index, without a password."""
    parts = urlsplit(options.get("index-url", _PYPI))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def main(tool: str, requirements: Path) -> int:
    """Install, and say what to set when that fails; the exit status."""
    options = pip_options()
    count = len(re.findall(r"^[A-Za-z0-9].*==", requirements.read_text("utf-8"), re.MULTILINE))
    what = "uv, which installs the rest," if tool == "pip" else f"{count} packages"
    sys.stdout.write(f"Installing {what} from {_shown_index(options)} ...\n")
    sys.stdout.flush()
    return _run(_command(tool, requirements, options), options)


def _run(command: list[str], options: Mapping[str, str]) -> int:
    """Run pip or uv; the exit status."""
    if command[0] == sys.executable:
        extra = pip_environment(options, os.environ)
    else:
        extra = uv_environment(options, os.environ, _pip_version())
    done = subprocess.run(command, env=os.environ | extra, check=False)
    if done.returncode:
        sys.stderr.write(_ADVICE.format(index=_shown_index(options)))
    return done.returncode


if __name__ == "__main__":
    if sys.argv[1] == "run":
        sys.exit(_run([_UV, *sys.argv[2:]], pip_options()))
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
