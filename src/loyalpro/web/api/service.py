"""`/`, `/healthz`, `/readyz`, `/metrics`: a page for browsers, and the monitoring of a server or a worker."""

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, JSONResponse

from loyalpro import __version__
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import NO_STORE

router = APIRouter(tags=["service"])
watch_router = APIRouter(tags=["service"])

_WELCOME = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>LoyalPro</title><link rel="stylesheet" href="/welcome.css"></head>
<body><main><h1>LoyalPro <small>{__version__}</small></h1>
<p>The server is running. Purchases go in over the API; signed webhooks come out.</p>
<ul><li><a href="/openapi.json">/openapi.json</a> describes every call and every webhook</li>
<li><a href="/v1/event_types">/v1/event_types</a> lists the events and their schemas</li>
<li><a href="/readyz">/readyz</a> shows whether it accepts requests and delivers events</li>
<li><a href="/metrics">/metrics</a> is for Prometheus</li></ul></main></body></html>
"""
_STYLE = """:root{color-scheme:light dark}
body{font:17px/1.6 system-ui,sans-serif;margin:0;display:grid;min-height:100vh;place-items:center}
main{max-width:36rem;padding:2rem}h1{margin:0;font-size:2.2rem}small{font-size:1rem;font-weight:400;opacity:.6}
ul{padding-left:1.2rem}a{color:light-dark(#0b57d0,#a8c7fa)}
"""
_SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_NOW = {"Cache-Control": NO_STORE}
"""What a probe reads is true now only."""


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def welcome() -> HTMLResponse:
    """The page at the address of the server."""
    return HTMLResponse(_WELCOME, headers=_SAFE)


@router.get("/welcome.css", include_in_schema=False)
async def style() -> Response:
    """The style sheet of the page."""
    return Response(_STYLE, media_type="text/css", headers=_SAFE)


@watch_router.head("/healthz", include_in_schema=False)
@watch_router.get("/healthz", summary="Is the process alive?")
async def healthz() -> JSONResponse:
    """200 while the process runs."""
    return JSONResponse({"status": "ok", "version": __version__}, headers=_NOW)


@watch_router.head("/readyz", include_in_schema=False)
@watch_router.get("/readyz", summary="Does the process accept requests and deliver events?")
async def readyz(services: ServicesDep) -> JSONResponse:
    """200 when both are true, else 503 with the causes. A worker only delivers."""
    checks = {name: check() for name, check in services.health.items()}
    if all(checks.values()):
        return JSONResponse({"status": "ok", **checks}, headers=_NOW)
    return JSONResponse({"status": "unavailable", **checks, "causes": list(services.causes())}, 503, _NOW)


@watch_router.head("/metrics", include_in_schema=False)
@watch_router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(services: ServicesDep) -> Response:
    """The metrics of this process in the text format of Prometheus."""
    return Response(services.metrics(), headers=_NOW, media_type="text/plain; version=0.0.4; charset=utf-8")
