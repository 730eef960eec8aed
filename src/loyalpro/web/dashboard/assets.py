"""Static files. Each is served under a name with the hash of its bytes, so that browsers keep it for good."""

import gzip
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from loyalpro.kernel.record import record

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS: Final = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}
_HASH_DIGITS: Final = 12


@record
class Asset:
    """A static file. `path`: where it is served. `packed`: its bytes, compressed by gzip."""

    path: str
    media_type: str
    body: bytes
    packed: bytes


def _read() -> dict[str, Asset]:
    folder = files(__package__) / "static"
    names = sorted(each.name for each in folder.iterdir() if each.name.rpartition(".")[2] in _TYPES)
    return {name: _asset(name, (folder / name).read_bytes()) for name in names}


def _asset(name: str, body: bytes) -> Asset:
    stem, _, kind = name.rpartition(".")
    digest = hashlib.sha256(body).hexdigest()[:_HASH_DIGITS]
    return Asset(f"/static/{stem}-{digest}.{kind}", _TYPES[kind], body, gzip.compress(body, 9, mtime=0))


ASSETS: Final[Mapping[str, Asset]] = _read()
"""Every static file, by the name that it has in the folder `static`."""
_BY_PATH: Final = {asset.path: asset for asset in ASSETS.values()}

router = APIRouter(include_in_schema=False)


def path_of(name: str) -> str:
    """Where a static file is served, such as `/static/style-0123456789ab.css`."""
    return ASSETS[name].path


@router.get("/static/{name}")
async def static_file(request: Request, name: str) -> Response:
    """A static file."""
    asset = _BY_PATH.get(f"/static/{name}")
    if asset is None:
        raise HTTPException(404)
    headers = {**_HEADERS, "Content-Type": asset.media_type}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.packed, headers=headers | {"Content-Encoding": "gzip"})
    return Response(asset.body, headers=headers)
