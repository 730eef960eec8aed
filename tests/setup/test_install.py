"""`scripts/install.py`, with an index of packages whose certificate only the settings of pip make trusted."""

import hashlib
import http.server
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.pages import ROOT
from support.receivers import Authority

SCRIPT = ROOT / "scripts" / "install.py"
WHEEL = "loyalpro_trifle-1.0-py3-none-any.whl"
REACH = ("PIP_", "UV_", "SSL_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP", "ALL_PROXY", "NO_PROXY")


def load() -> Any:
    spec = importlib.util.spec_from_file_location("install", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = load()


@pytest.fixture(scope="module")
def requirements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that locks one package, beside the package itself."""
    folder = tmp_path_factory.mktemp("index")
    info = "loyalpro_trifle-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("loyalpro_trifle.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: loyalpro-trifle\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"loyalpro_trifle.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    digest = hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()
    (folder / "requirements.txt").write_text(f"loyalpro-trifle==1.0 --hash=sha256:{digest}\n")
    return folder / "requirements.txt"


@pytest.fixture(scope="module")
def index(requirements: Path, authority: Authority) -> Iterator[str]:
    """The address of an index with that package, served with a certificate of the authority of the tests."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def _answer(self, *, with_content: bool) -> None:
            pages = {
                "/simple/loyalpro-trifle/": ("text/html", f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode()),
                f"/files/{WHEEL}": ("application/octet-stream", (requirements.parent / WHEEL).read_bytes()),
            }
            kind, content = pages.get(self.path, ("text/plain", b""))
            self.send_response(200 if content else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_content:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = authority.context().wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://localhost:{server.server_address[1]}/simple"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new virtual environment that has pip and uv."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=100)
    uv = Path(sys.executable).with_name("uv")
    assert uv.exists(), "uv is missing: run make setup-dev"
    (folder / "bin" / "uv").symlink_to(uv)
    return folder / "bin" / "python"


class Setup:
    """Runs the script with nothing but these variables to reach an index."""

    def __init__(self, python: Path, requirements: Path) -> None:
        self._python = python
        self._requirements = requirements
        self._installed = python.parent.parent / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"

    def run(self, tool: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        for each in self._installed.glob("loyalpro_trifle*"):
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(REACH)}
        once = {"PIP_NO_CACHE_DIR": "1", "UV_NO_CACHE": "1", "PIP_RETRIES": "0", "UV_HTTP_RETRIES": "0"}
        return subprocess.run(
            [self._python, SCRIPT, tool, self._requirements],
            env=kept | once | {"PIP_CONFIG_FILE": os.devnull} | variables,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    @property
    def installed(self) -> bool:
        return (self._installed / "loyalpro_trifle.py").exists()


@pytest.fixture(scope="module")
def setup(python: Path, requirements: Path) -> Setup:
    return Setup(python, requirements)


@pytest.mark.parametrize("tool", ["pip", "uv"])
@pytest.mark.parametrize("variable", ["PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_authority_in_a_variable_is_trusted(
    setup: Setup, index: str, authority: Authority, tool: str, variable: str
) -> None:
    done = setup.run(tool, PIP_INDEX_URL=index, **{variable: str(authority.ca_file)})
    assert (done.returncode, setup.installed) == (0, True), done.stderr


@pytest.mark.parametrize("tool", ["pip", "uv"])
@pytest.mark.parametrize("section", ["global", "install"])
def test_the_settings_in_a_file_of_pip_count(
    setup: Setup, index: str, authority: Authority, tmp_path: Path, tool: str, section: str
) -> None:
    (tmp_path / "pip.conf").write_text(f"[{section}]\nindex-url = {index}\ncert = {authority.ca_file}\n")
    done = setup.run(tool, PIP_CONFIG_FILE=str(tmp_path / "pip.conf"))
    assert (done.returncode, setup.installed) == (0, True), done.stderr
    assert done.stdout.startswith("Installing ")
    assert index in done.stdout


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_host_that_pip_trusts_without_a_certificate_is_trusted(setup: Setup, index: str, tool: str) -> None:
    host = index.split("/")[2]
    done = setup.run(tool, PIP_INDEX_URL=index, PIP_TRUSTED_HOST=host)
    assert (done.returncode, setup.installed) == (0, True), done.stderr


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_packages_in_a_folder_are_found_without_an_index(setup: Setup, requirements: Path, tool: str) -> None:
    done = setup.run(tool, PIP_FIND_LINKS=str(requirements.parent), PIP_NO_INDEX="1")
    assert (done.returncode, setup.installed) == (0, True), done.stderr


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_an_unknown_authority_fails_and_the_last_lines_say_what_to_set(setup: Setup, index: str, tool: str) -> None:
    secret = index.replace("https://", "https://ada:hidden@")
    done = setup.run(tool, PIP_INDEX_URL=secret)
    assert done.returncode != 0
    assert not setup.installed
    advice = done.stderr.partition("The packages could not be installed")[2]
    assert index in advice
    for name in ("PIP_CERT", "HTTPS_PROXY", "PIP_INDEX_URL", "pip config list"):
        assert name in advice
    assert "hidden" not in advice + done.stdout


def test_the_options_of_pip_become_variables_of_uv(tmp_path: Path) -> None:
    options = {
        "index-url": "https://a/simple",
        "extra-index-url": "\nhttps://b/simple\nhttps://c/simple",
        "find-links": "/wheels\n/more",
        "trusted-host": "a\nb",
        "proxy": "user:word@proxy:3128",
        "client-cert": "/client.pem",
        "timeout": "60",
        "cert": str(tmp_path),
    }
    assert install.uv_environment(options, {}, (23, 2)) == {
        "UV_DEFAULT_INDEX": "https://a/simple",
        "UV_INDEX": "https://b/simple https://c/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_INSECURE_HOST": "a b",
        "HTTP_PROXY": "http://user:word@proxy:3128",
        "HTTPS_PROXY": "http://user:word@proxy:3128",
        "SSL_CLIENT_CERT": "/client.pem",
        "UV_HTTP_TIMEOUT": "60",
        "SSL_CERT_DIR": str(tmp_path),
    }


def test_variables_of_uv_that_are_set_stay() -> None:
    found = install.uv_environment({"index-url": "https://a/simple"}, {"UV_DEFAULT_INDEX": "https://b/simple"}, (23, 2))
    assert found == {}


@pytest.mark.parametrize(("version", "trusts_the_system"), [((23, 2), False), ((24, 2), True), ((25, 0), True)])
def test_uv_trusts_the_authorities_of_the_system_when_pip_does(
    version: tuple[int, ...], *, trusts_the_system: bool
) -> None:
    assert ("UV_SYSTEM_CERTS" in install.uv_environment({}, {}, version)) == trusts_the_system
    assert "UV_SYSTEM_CERTS" not in install.uv_environment({"cert": "/ca.pem"}, {}, version)
