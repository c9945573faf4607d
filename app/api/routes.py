"""The route table, and the Starlette routes made of it."""

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Mount, WebSocketRoute
from starlette.routing import Route as StarletteRoute
from starlette.routing import Router as StarletteRouter
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from app.api import (
    batches,
    checkouts,
    costs,
    entries,
    events,
    grants,
    holds,
    keys,
    members,
    ops,
    packs,
    prices,
    recommendations,
    reports,
    simulations,
    trends,
    verify,
    wallets,
    webhook_endpoints,
)
from app.api.http import Endpoint, Route, not_found
from app.api.live import LiveEndpoint
from app.api.pages import Files, Page
from app.api.services import Services
from app.errors import MethodNotAllowed, NotFound

ROUTES: Sequence[Route] = (
    *events.ROUTES,
    *batches.ROUTES,
    *holds.ROUTES,
    *wallets.ROUTES,
    *grants.ROUTES,
    *members.ROUTES,
    *entries.ROUTES,
    *checkouts.ROUTES,
    *simulations.ROUTES,
    *prices.ROUTES,
    *packs.ROUTES,
    *costs.ROUTES,
    *reports.ROUTES,
    *trends.ROUTES,
    *recommendations.ROUTES,
    *webhook_endpoints.ROUTES,
    *keys.ROUTES,
    *verify.ROUTES,
    *ops.ROUTES,
)
"""Every route of the contract: method, path, credential, request and answer structs, errors."""


def starlette_routes(services: Services) -> list[BaseRoute]:
    """The routes of a server, those that are called most first."""
    return [
        *endpoints(ROUTES, services),
        WebSocketRoute("/v1/live", LiveEndpoint(services)),
        StarletteRoute("/dashboard", Page("dashboard.html")),
        StarletteRoute("/top-up/return", Page("top-up.html")),
        Mount("/static", _in_our_shape(Files())),
        Mount("/", not_found),
    ]


def endpoints(routes: Sequence[Route], services: Services) -> list[BaseRoute]:
    """One Starlette route for each path of a table."""
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    return [StarletteRoute(path, Endpoint(group, services)) for path, group in by_path.items()]


class Router(StarletteRouter):
    """Starlette's router, which tries its routes one after another, behind a look-up of the paths that are constant."""

    def __init__(self, lifespan: Lifespan["Router"]) -> None:
        super().__init__(lifespan=lifespan, default=not_found)  # no route matches a path of several lines
        self._endpoints: dict[str, ASGIApp] = {}

    def serve(self, routes: Sequence[BaseRoute]) -> None:
        """Takes its routes, once they are known."""
        self.routes[:] = routes
        self._endpoints = {
            route.path: route.endpoint
            for route in reversed(self.routes)
            if isinstance(route, StarletteRoute) and isinstance(route.endpoint, Endpoint) and "{" not in route.path
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request to its endpoint."""
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None:
            await super().__call__(scope, receive, send)
        else:
            scope["path_params"] = {}
            await endpoint(scope, receive, send)


def _in_our_shape(app: ASGIApp) -> ASGIApp:
    """Starlette's own refusals as ours."""

    async def shaped(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except HTTPException as error:
            raise (MethodNotAllowed() if error.status_code == 405 else NotFound()) from error

    return shaped
