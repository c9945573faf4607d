"""A small stand-in for Stripe, inside the demo's own server.

It answers the HTTP calls that the `stripe` package makes for a checkout, shows a page where it is paid with a test
card, and delivers the signed webhook over real HTTP. Nothing else in the program knows of it: only the base address
that the `stripe` package is given differs.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.api.pages import Page
from app.config import Config

log = logging.getLogger("chargly.demo")

PATH: Final = "/sandbox"
GOOD_CARD: Final = "4242424242424242"
DECLINED_CARD: Final = "4000000000000002"
_SESSIONS_MAX: Final = 1_000
_BODY_BYTES_MAX: Final = 64_000
_DELIVERIES_MAX: Final = 5
_SESSION_PARAMETERS: Final = frozenset(
    {
        "mode",
        "client_reference_id",
        "line_items",
        "metadata",
        "payment_intent_data",
        "success_url",
        "cancel_url",
        "expires_at",
    }
)
"""What we send, and so what it understands; a parameter that it does not know it refuses, as Stripe does."""
_REQUIRED: Final = (
    ("line_items", "0", "price_data", "unit_amount"),
    ("line_items", "0", "price_data", "currency"),
    ("line_items", "0", "price_data", "product_data", "name"),
    ("success_url",),
    ("cancel_url",),
    ("expires_at",),
)
_WHOLE: Final = ("unit_amount", "expires_at")


class Sandbox:
    """Checkout sessions in memory, with the life that Stripe gives them."""

    def __init__(self, config: Config) -> None:
        self._secret = config.stripe_webhook_secret or ""
        base = config.stripe_api_base.removesuffix(PATH)
        self._webhook_url = f"{base}/v1/stripe/webhook"
        self._sessions: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._by_key: dict[str, str] = {}
        self._deliveries: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_SESSIONS_MAX)

    def routes(self) -> Sequence[BaseRoute]:
        """Stripe's calls, and the page's own."""
        return [
            Route(f"{PATH}/v1/checkout/sessions", self._create, methods=["POST"]),
            Route(f"{PATH}/v1/checkout/sessions/{{session_id}}", self._retrieve, methods=["GET"]),
            Route(f"{PATH}/pay/{{session_id}}", Page("sandbox.html")),
            Route(f"{PATH}/sessions/{{session_id}}", self._show, methods=["GET"]),
            Route(f"{PATH}/sessions/{{session_id}}/pay", self._pay, methods=["POST"]),
        ]

    @contextlib.asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """Delivers webhooks for as long as the server runs."""
        task = asyncio.create_task(self._deliver_all(), name="sandbox")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _create(self, request: Request) -> Response:
        form = unflatten(parse_qsl((await request.body())[:_BODY_BYTES_MAX].decode()))
        for name in form:
            if name not in _SESSION_PARAMETERS:
                return _error(400, "parameter_unknown", f"Received unknown parameter: {name}", param=name)
        key = request.headers.get("idempotency-key", "")
        session = self._sessions.get(self._by_key.get(key, ""))
        if session is None:
            missing = _missing(form)
            if missing is not None:
                return _error(400, "parameter_missing", f"Missing required param: {missing}.", param=missing)
            session = self._new_session(form, f"{request.url.scheme}://{request.headers['host']}")
            self._by_key[key] = session["id"]
        return JSONResponse(session)

    def _new_session(self, form: dict[str, Any], origin: str) -> dict[str, Any]:
        item = form["line_items"]["0"]["price_data"]
        amount = int(item["unit_amount"])
        session_id = f"cs_test_{secrets.token_hex(20)}"
        session = checkout_session(
            id=session_id,
            amount_subtotal=amount,
            amount_total=amount,
            currency=item["currency"],
            client_reference_id=form.get("client_reference_id"),
            metadata=form.get("metadata", {}),
            success_url=form["success_url"],
            cancel_url=form["cancel_url"],
            created=int(time.time()),
            expires_at=int(form["expires_at"]),
            url=f"{origin}{PATH}/pay/{session_id}",
        )
        session["custom_text"]["submit"] = {"message": item["product_data"]["name"]}
        self._sessions[session_id] = session
        if len(self._sessions) > _SESSIONS_MAX:
            gone, _ = self._sessions.popitem(last=False)
            self._by_key = {key: kept for key, kept in self._by_key.items() if kept != gone}
        return session

    def _find(self, request: Request) -> dict[str, Any] | None:
        session = self._sessions.get(request.path_params["session_id"])
        if session is not None and session["status"] == "open" and session["expires_at"] <= time.time():
            session.update(status="expired", url=None)
            self._announce("checkout.session.expired", session)
        return session

    async def _retrieve(self, request: Request) -> Response:
        session = self._find(request)
        return JSONResponse(session) if session else _error(404, "resource_missing", "No such checkout.session")

    async def _show(self, request: Request) -> Response:
        session = self._find(request)
        if session is None:
            return _error(404, "resource_missing", "The sandbox has no such session; it forgets them when it restarts.")
        return JSONResponse(
            {
                "id": session["id"],
                "description": session["custom_text"]["submit"]["message"],
                "amount": session["amount_total"],
                "currency": session["currency"],
                "status": session["status"],
                "cancel_url": session["cancel_url"],
                "success_url": session["success_url"],
            }
        )

    async def _pay(self, request: Request) -> Response:
        session = self._find(request)
        if session is None or session["status"] == "expired":
            return _error(404, "resource_missing", "This session is over; go back and begin again.")
        try:
            body = json.loads((await request.body())[:_BODY_BYTES_MAX])
            card = re.sub(r"\s", "", str(body["card"]))
        except (ValueError, KeyError, TypeError):
            return _error(400, "parameter_missing", "Send the card's number as 'card'.", param="card")
        if session["status"] == "open":
            if card == DECLINED_CARD:
                return _error(402, "card_declined", "Your card was declined.")
            if card != GOOD_CARD:
                return _error(402, "incorrect_number", "The sandbox takes its own test cards only, never a real one.")
            intent = f"pi_test_{secrets.token_hex(12)}"
            session.update(status="complete", payment_status="paid", payment_intent=intent, url=None)
            self._announce("checkout.session.completed", session)
        return JSONResponse({"redirect": session["success_url"]})

    def _announce(self, kind: str, session: dict[str, Any]) -> None:
        event = {
            "id": f"evt_test_{secrets.token_hex(12)}",
            "object": "event",
            "api_version": None,
            "created": int(time.time()),
            "data": {"object": session},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
        }
        with contextlib.suppress(asyncio.QueueFull):  # the session can still be read, and so lands
            self._deliveries.put_nowait(event)

    async def _deliver_all(self) -> None:
        async with httpx.AsyncClient(timeout=10) as client:
            while True:
                await self._deliver(client, await self._deliveries.get())

    async def _deliver(self, client: httpx.AsyncClient, event: dict[str, Any]) -> None:
        payload = json.dumps(event, indent=2).encode()
        for attempt in range(_DELIVERIES_MAX):
            headers = {"Stripe-Signature": signature(payload, self._secret), "Content-Type": "application/json"}
            try:
                answer = await client.post(self._webhook_url, content=payload, headers=headers)
                if answer.status_code == 200:
                    return
                log.warning("sandbox: the webhook answered %s", answer.status_code)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                log.warning("sandbox: the webhook was not delivered: %s", error)
            await asyncio.sleep(2**attempt)


def _missing(form: dict[str, Any]) -> str | None:
    """The first parameter that a session cannot do without and the form lacks."""
    for path in _REQUIRED:
        node: Any = form
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, str) or (path[-1] in _WHOLE and not node.isdecimal()):
            return f"{path[0]}{''.join(f'[{part}]' for part in path[1:])}"
    return None


def signature(payload: bytes, secret: str) -> str:
    """A `Stripe-Signature` header for a payload, made now."""
    at = int(time.time())
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def unflatten(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Stripe's form encoding, `a[b][0]=c`, as nested dicts; lists stay dicts by index."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        *folders, last = re.findall(r"[^\[\]]+", name)
        node = root
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = value
    return root


def checkout_session(**fields: Any) -> dict[str, Any]:
    """A Checkout session with the fields and nulls of Stripe's, after its published OpenAPI description."""
    nulls = (
        "after_expiration",
        "allow_promotion_codes",
        "billing_address_collection",
        "client_secret",
        "consent",
        "consent_collection",
        "currency_conversion",
        "customer",
        "customer_account",
        "customer_creation",
        "customer_email",
        "discounts",
        "integration_identifier",
        "invoice",
        "invoice_creation",
        "locale",
        "origin_context",
        "payment_intent",
        "payment_link",
        "payment_method_collection",
        "payment_method_configuration_details",
        "permissions",
        "recovered_from",
        "saved_payment_method_options",
        "setup_intent",
        "shipping_address_collection",
        "shipping_cost",
        "submit_type",
        "subscription",
        "ui_mode",
        "wallet_options",
    )
    return {
        "object": "checkout.session",
        **dict.fromkeys(nulls),
        "adaptive_pricing": {"enabled": False},
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "custom_fields": [],
        "custom_text": {"after_submit": None, "shipping_address": None, "submit": None},
        "customer_details": None,
        "livemode": False,
        "mode": "payment",
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "phone_number_collection": {"enabled": False},
        "shipping_options": [],
        "status": "open",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        **fields,
    }


def _error(status: int, code: str, message: str, **more: str) -> Response:
    kind = "card_error" if status == 402 else "invalid_request_error"
    return JSONResponse({"error": {"type": kind, "code": code, "message": message, **more}}, status)
