"""`/healthz`, `/readyz`, `/metrics`: the monitoring of a server or a worker."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from loyalpro import __version__
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import NO_STORE

watch_router = APIRouter(tags=["service"])

_NOW = {"Cache-Control": NO_STORE}
"""What a probe reads is true now only."""


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
