"""Builds the web applications of a server and of a worker."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI

from loyalpro import __version__
from loyalpro.kernel.ids import IdFactory
from loyalpro.web import errors, observation, openapi
from loyalpro.web.api import (
    adjustments,
    api_keys,
    audit_log,
    calculation,
    campaigns,
    churn,
    customer_tiers,
    customers,
    deliveries,
    events,
    exports,
    find,
    fraud,
    imports,
    lots,
    notices,
    program,
    redemptions,
    refunds,
    replays,
    reports,
    rewards,
    secrets,
    service,
    transactions,
    webhook_endpoints,
)
from loyalpro.web.dashboard import dashboard
from loyalpro.web.services import Services

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_DESCRIPTION = "Loyalty data and its webhooks. Ids sort by time; money is in minor units; times are RFC 3339 in UTC."


def build(
    services: Services,
    metrics: observation.RequestMetrics,
    ids: IdFactory,
    lifespan: Lifespan,
    *,
    with_components: bool = False,
) -> FastAPI:
    """The application of a server: the API, the dashboard, health and metrics."""
    app = FastAPI(
        title="LoyalPro",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.include_router(transactions.batch_router)
    app.include_router(refunds.batch_router)
    app.include_router(customers.batch_router)
    for resource in (
        customers,
        lots,
        customer_tiers,
        adjustments,
        transactions,
        imports,
        exports,
        reports,
        calculation,
        program,
        campaigns,
        rewards,
        redemptions,
        refunds,
        churn,
        webhook_endpoints,
        secrets,
        replays,
        events,
        deliveries,
        notices,
        api_keys,
        audit_log,
        fraud,
        find,
    ):
        app.include_router(resource.router)
    app.include_router(service.watch_router)
    errors.install(app)
    dashboard.install(app, with_components=with_components)
    observation.install(app, metrics, services.clock, ids, services.trusted_proxies)
    openapi.install(app)
    return app


def build_watch(services: Services, metrics: observation.RequestMetrics, ids: IdFactory, lifespan: Lifespan) -> FastAPI:
    """The application of a worker: health and metrics."""
    app = FastAPI(title="LoyalPro worker", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.services = services
    app.include_router(service.watch_router)
    errors.install(app)
    observation.install(app, metrics, services.clock, ids)
    return app
