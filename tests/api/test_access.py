"""Who may call what: every route of the table is tried with each credential that it must refuse."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from serving import TOKEN_SECRET, ServerProcess, charge, error_of, grant

from app.api.http import Route
from app.api.routes import ROUTES

PROTECTED = [route for route in ROUTES if not route.access.public]
PUBLIC = {"/healthz", "/metrics", "/readyz", "/v1/checkouts/{checkout_id}/status", "/v1/stripe/webhook"}


def called(route: Route) -> str:
    return f"{route.method} {route.path}"


def call(client: httpx.Client, route: Route) -> httpx.Response:
    """The route called with names in its path and a body that it may not take: what is forbidden is said first."""
    path = re.sub(r"\{\w+\}", "someone", route.path)
    return client.request(route.method, path, json={} if route.request is not None else None)


@pytest.fixture(scope="module")
def scoped(server: ServerProcess) -> Iterator[dict[str, httpx.Client]]:
    """A client for a key of each scope."""
    clients = {}
    for scope in ("meter", "prices"):
        done = server.run("keys", "create", "--name", scope, "--scope", scope, "--json")
        clients[scope] = server.client(json.loads(done.stdout)["key"])
    yield clients
    for client in clients.values():
        client.close()


def test_only_health_and_what_has_its_own_credential_is_public() -> None:
    assert {route.path for route in ROUTES if route.access.public} == PUBLIC


@pytest.mark.parametrize("route", PROTECTED, ids=called)
def test_no_credential_and_a_wrong_one_are_refused(server: ServerProcess, route: Route) -> None:
    with server.client(None) as nobody, server.client("sk_wrong_0123456789abcdef") as stranger:
        error_of(call(nobody, route), 401, "missing_key")
        error_of(call(stranger, route), 401, "invalid_key")


@pytest.mark.parametrize("route", [one for one in PROTECTED if one.access.key != "meter"], ids=called)
def test_a_meter_key_is_refused_where_more_is_asked(scoped: dict[str, httpx.Client], route: Route) -> None:
    error_of(call(scoped["meter"], route), 403, "forbidden_scope")


@pytest.mark.parametrize("route", [one for one in PROTECTED if one.access.key == "admin"], ids=called)
def test_a_prices_key_is_refused_where_an_admin_is_asked(scoped: dict[str, httpx.Client], route: Route) -> None:
    error_of(call(scoped["prices"], route), 403, "forbidden_scope")


@pytest.mark.parametrize("route", [one for one in PROTECTED if one.access.token is None], ids=called)
def test_a_token_is_refused_where_none_is_taken(server: ServerProcess, route: Route) -> None:
    with server.client(server.token("someone")) as browser:
        error_of(call(browser, route), 403, "forbidden_scope")


@pytest.mark.parametrize("route", [one for one in PROTECTED if one.access.token is not None], ids=called)
def test_a_token_without_the_scope_is_refused(server: ServerProcess, route: Route) -> None:
    other = "top_up" if route.access.token == "read" else "read"
    with server.client(server.token("someone", scopes=[other])) as browser:
        error_of(call(browser, route), 403, "forbidden_scope")


WALLET = "/v1/wallets/someone"
METER_MAY = [
    ("POST", "/v1/holds"),
    ("GET", "/v1/holds/hold_1"),
    ("POST", "/v1/holds/hold_1/capture"),
    ("POST", "/v1/holds/hold_1/release"),
    ("GET", f"{WALLET}/holds"),
    ("POST", "/v1/events"),
    ("POST", "/v1/events/batch"),
    ("GET", "/v1/events/evt_1"),
    ("POST", "/v1/events/evt_1/reverse"),
    ("GET", f"{WALLET}/members"),
    ("GET", f"{WALLET}/members/alice"),
]
"""What the backend of a product does, and no browser."""
ADMIN_MAY = [
    ("POST", "/v1/wallets"),
    ("PATCH", WALLET),
    ("POST", f"{WALLET}/grants"),
    ("POST", f"{WALLET}/grants/grant_1/void"),
    ("POST", f"{WALLET}/adjustments"),
    ("PATCH", f"{WALLET}/members/alice"),
]
"""What makes or takes credits, or sets who may spend them."""


@pytest.mark.parametrize(("method", "path"), METER_MAY)
def test_a_meter_key_meters_holds_and_reverses_and_a_token_does_not(
    server: ServerProcess, scoped: dict[str, httpx.Client], method: str, path: str
) -> None:
    json = None if method == "GET" else {}
    answer = scoped["meter"].request(method, path, json=json)
    assert answer.status_code in (400, 404), answer.text
    error_of(scoped["prices"].request(method, path, json=json), 403, "forbidden_scope")
    with server.client(server.token("someone")) as browser:
        error_of(browser.request(method, path, json=json), 403, "forbidden_scope")


@pytest.mark.parametrize(("method", "path"), ADMIN_MAY)
def test_only_an_admin_key_gives_takes_and_sets(
    server: ServerProcess, scoped: dict[str, httpx.Client], method: str, path: str
) -> None:
    for client in scoped.values():
        error_of(client.request(method, path, json={}), 403, "forbidden_scope")
    with server.client(server.token("someone")) as browser:
        error_of(browser.request(method, path, json={}), 403, "forbidden_scope")


def test_a_token_reads_its_own_wallet_and_nobody_elses(server: ServerProcess, api: httpx.Client, customer: str) -> None:
    grant(api, other := f"{customer}_2", 5)
    with server.client(server.token(customer)) as browser:
        assert browser.get(f"/v1/wallets/{customer}").json()["balance"] == 100
        assert browser.get("/v1/packs").status_code == 200
        for path in (f"/v1/wallets/{other}", f"/v1/wallets/{other}/entries", "/v1/wallets/never_seen"):
            error_of(browser.get(path), 403, "forbidden_scope")
        event = charge(api, customer).json()
        error_of(browser.get(f"/v1/events/{event['id']}"), 403, "forbidden_scope")


def test_a_token_made_by_a_host_with_the_shared_secret_is_taken(server: ServerProcess, customer: str) -> None:
    claims = {"sub": customer, "exp": int(time.time()) + 60, "scopes": ["read"]}
    with server.client(jwt.encode(claims, TOKEN_SECRET, algorithm="HS256")) as browser:
        assert browser.get(f"/v1/wallets/{customer}").status_code == 200


def claims(**changes: Any) -> dict[str, Any]:
    good = {"sub": "someone", "exp": int(time.time()) + 60, "scopes": ["read"]} | changes
    return {name: value for name, value in good.items() if value is not ...}


@pytest.mark.parametrize(
    ("changes", "secret", "algorithm", "code"),
    [
        ({"exp": 1}, TOKEN_SECRET, "HS256", "token_expired"),
        ({"exp": ...}, TOKEN_SECRET, "HS256", "invalid_token"),
        ({"exp": 10**12}, TOKEN_SECRET, "HS256", "invalid_token"),
        ({"exp": 10**400}, TOKEN_SECRET, "HS256", "invalid_token"),
        ({"exp": "soon"}, TOKEN_SECRET, "HS256", "invalid_token"),
        ({"exp": float("inf")}, TOKEN_SECRET, "HS256", "invalid_token"),
        ({"sub": ...}, TOKEN_SECRET, "HS256", "invalid_token"),
        ({"sub": ""}, TOKEN_SECRET, "HS256", "invalid_token"),
        ({"sub": 7}, TOKEN_SECRET, "HS256", "invalid_token"),
        ({"scopes": ...}, TOKEN_SECRET, "HS256", "invalid_token"),
        ({"scopes": "read"}, TOKEN_SECRET, "HS256", "invalid_token"),
        ({"nbf": 10**11}, TOKEN_SECRET, "HS256", "invalid_token"),
        ({}, "another secret that is long enough too", "HS256", "invalid_token"),
        ({}, TOKEN_SECRET * 2, "HS512", "invalid_token"),
        ({}, None, "none", "invalid_token"),
    ],
)
def test_a_token_that_is_not_ours_or_not_now_is_refused(
    server: ServerProcess, changes: dict[str, Any], secret: str | None, algorithm: str, code: str
) -> None:
    with server.client(jwt.encode(claims(**changes), secret, algorithm=algorithm)) as browser:
        error_of(browser.get("/v1/wallets/someone"), 401, code)


def test_scopes_that_a_token_makes_up_give_nothing(server: ServerProcess) -> None:
    made_up = claims(scopes=["admin", "meter", None, {"a": 1}])
    with server.client(jwt.encode(made_up, TOKEN_SECRET, algorithm="HS256")) as browser:
        error_of(browser.get("/v1/wallets/someone"), 403, "forbidden_scope")
