"""Adds the dashboard to a web application."""

from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException

from loyalpro.web.dashboard import assets, errors
from loyalpro.web.dashboard.pages import (
    audit,
    campaigns,
    churn,
    components,
    customer,
    customer_changes,
    customers,
    deliveries,
    delivery,
    documentation,
    endpoint,
    endpoint_settings,
    events,
    exports,
    find,
    first_run,
    fraud,
    home,
    imports,
    invitations,
    keys,
    me,
    members,
    replays,
    rewards,
    rules,
    secret,
    sign_in,
    transactions,
    webhooks,
)
from loyalpro.web.dashboard.rights import IN_DEVELOPMENT, ROUTES, require_complete
from loyalpro.web.dashboard.routes import PageRoute

ROUTERS: Final[tuple[APIRouter, ...]] = (
    home.router,
    first_run.router,
    sign_in.router,
    invitations.router,
    me.router,
    members.router,
    webhooks.router,
    endpoint.router,
    endpoint_settings.router,
    replays.router,
    secret.router,
    keys.router,
    documentation.router,
    customers.router,
    customer.router,
    deliveries.router,
    delivery.router,
    events.router,
    customer_changes.router,
    transactions.router,
    find.router,
    campaigns.router,
    rules.router,
    fraud.router,
    imports.router,
    exports.router,
    rewards.router,
    audit.router,
    churn.router,
)
"""The routers of all groups of pages."""


def pages_of(routers: Iterable[APIRouter] = ROUTERS) -> list[PageRoute]:
    """The routes of all pages of these routers."""
    return [route for router in routers for route in router.routes if isinstance(route, PageRoute)]


def install(app: FastAPI, *, with_components: bool = False) -> None:
    """Add every page, the static files, and the page for addresses that do not exist.

    Raises `TypeError` when a page has no row in the table of rights, or a row no page.
    """
    rows = dict(ROUTES)
    routers = list(ROUTERS)
    if with_components:
        rows |= IN_DEVELOPMENT
        routers.append(components.router)
    for router in routers:
        app.include_router(router)
    app.include_router(assets.router)
    pages = pages_of(routers)
    require_complete([route.name for route in pages], rows)
    app.state.access = rows
    app.state.page_paths = frozenset(route.path for route in pages)
    app.add_exception_handler(HTTPException, errors.no_such_address)
