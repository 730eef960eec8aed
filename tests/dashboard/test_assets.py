"""Static files: what is in them, under which names they are served, and how large they are."""

import gzip
import hashlib
import re
from collections.abc import Iterator

import pytest

from loyalpro.web.dashboard.assets import ASSETS
from support.databases import Databases
from support.server import Server

HTMX_SHA256 = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
"""Of dist/htmx.min.js in the npm package htmx.org 2.0.11, whose tarball is
sha512-Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA==."""
MAX_SCRIPT_BYTES = 6 * 1024
MAX_FIRST_LOAD_BYTES = 40 * 1024


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        yield running


def test_htmx_is_the_published_file_and_its_license_is_beside_it() -> None:
    assert hashlib.sha256(ASSETS["htmx.min.js"].body).hexdigest() == HTMX_SHA256
    assert b'version:"2.0.11"' in ASSETS["htmx.min.js"].body


def test_the_first_load_is_small() -> None:
    assert len(ASSETS["app.js"].body) < MAX_SCRIPT_BYTES
    assert sum(len(asset.packed) for asset in ASSETS.values()) < MAX_FIRST_LOAD_BYTES


def test_a_file_is_kept_for_good_under_a_name_that_changes_with_it(server: Server) -> None:
    for asset in ASSETS.values():
        plain = server.call("GET", asset.path, key=None)
        assert (plain.status, plain.raw) == (200, asset.body)
        assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert plain.headers["x-content-type-options"] == "nosniff"
        assert plain.headers["content-type"] == asset.media_type
        packed = server.call("GET", asset.path, key=None, Accept_Encoding="gzip, br")
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.raw) == asset.body
        assert re.search(r"-[0-9a-f]{12}\.", asset.path)


@pytest.mark.parametrize("name", ["style.css", "app-000000000000.js", "LICENSES", "../rights.py", "..%2frights.py", ""])
def test_nothing_else_is_served(server: Server, name: str) -> None:
    assert server.call("GET", f"/static/{name}", key=None).status == 404
