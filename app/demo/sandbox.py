"""Stripe for the demo, inside the demo's own server: an account in memory, which real money never reaches.

It answers the HTTP calls that the `stripe` package makes, shows a page where a checkout is paid with a test card, and
delivers signed webhooks over real HTTP. Nothing else in the program knows of it: only the base address that the
`stripe` package is given differs.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.api.pages import Page
from app.config import Config
from app.demo.stripe_account import StripeAccount
from app.demo.stripe_objects import StripeObject
from app.demo.stripe_parameters import unflatten
from app.demo.stripe_refusal import StripeRefusal
from app.payments.signals import HANDLED

log = logging.getLogger("chargly.demo")

PATH: Final = "/sandbox"
_KEPT_MAX: Final = 1_000
_BODY_BYTES_MAX: Final = 64_000
_DELIVERIES_MAX: Final = 5
_TAX_PERCENT: Final = 10


class Sandbox:
    """A Stripe account behind HTTP, whose events are told to this server's webhook as Stripe would tell them."""

    def __init__(self, config: Config) -> None:
        self._secret = config.stripe_webhook_secrets[0] if config.stripe_webhook_secrets else ""
        base = config.stripe_api_base.removesuffix(PATH)
        self._webhook_url = f"{base}/v1/stripe/webhook"
        self._deliveries: asyncio.Queue[StripeObject] = asyncio.Queue(_KEPT_MAX)
        pages = f"{config.public_url or base}{PATH}/pay"
        self.account = StripeAccount(lambda id_: f"{pages}/{id_}", told=self._tell, kept_max=_KEPT_MAX)

    def routes(self) -> Sequence[BaseRoute]:
        """Stripe's calls, and those of the page where a checkout is paid."""
        return [
            Route(f"{PATH}/v1/{{path:path}}", self._call, methods=["GET", "POST"]),
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

    async def _call(self, request: Request) -> Response:
        given = await request.body() if request.method == "POST" else request.scope["query_string"]
        try:
            form = unflatten(parse_qsl(given[:_BODY_BYTES_MAX].decode(errors="replace"), keep_blank_values=True))
        except StripeRefusal as refusal:
            return _refused(refusal)
        key = request.headers.get("idempotency-key")
        status, body = self.account.call(request.method, f"/v1/{request.path_params['path']}", form, key)
        return JSONResponse(body, status)

    def _session(self, request: Request) -> StripeObject:
        found = self.account.one(request.path_params["session_id"])
        if found is None or found["object"] != "checkout.session":
            said = "The sandbox has no such session; it forgets those that are not paid when it restarts."
            raise StripeRefusal(404, "resource_missing", said)
        return found

    async def _show(self, request: Request) -> Response:
        try:
            session = self._session(request)
        except StripeRefusal as refusal:
            return _refused(refusal)
        told = ("id", "currency", "status", "payment_status", "cancel_url", "success_url", "customer_email")
        tax = _tax(session)
        return JSONResponse(
            {name: session[name] for name in told}
            | {
                "description": self.account.description(session["id"]),
                "subtotal": session["amount_subtotal"],
                "tax": tax,
                "amount": session["amount_subtotal"] + tax if session["status"] == "open" else session["amount_total"],
                "promotion_codes": bool(session["allow_promotion_codes"]),
                "keeps_card": self.account.keeps_card(session["id"]),
            }
        )

    async def _pay(self, request: Request) -> Response:
        try:
            session = self._session(request)
            if session["status"] == "expired":
                raise StripeRefusal(404, "resource_missing", "This session is over; go back and begin again.")
            given = _json(await request.body())
            if session["status"] == "open":
                self._paid(session, given)
        except StripeRefusal as refusal:
            return _refused(refusal)
        return JSONResponse({"redirect": session["success_url"]})

    def _paid(self, session: StripeObject, given: Mapping[str, Any]) -> None:
        """Pays a session as the page asks: `promotion` takes all off, `bank_debit` comes later, or a `card` pays."""
        id = session["id"]
        if given.get("promotion") is True:
            self.account.pay_nothing(id)
        elif given.get("bank_debit") is True:
            self.account.pay_later(id, tax=_tax(session))
        elif isinstance(given.get("card"), str):
            self.account.pay(id, given["card"], tax=_tax(session))
        else:
            raise StripeRefusal(400, "parameter_missing", "Send the card's number as 'card'.", param="card")

    def _tell(self, event: StripeObject) -> None:
        if event["type"] in HANDLED:  # what a webhook endpoint would be subscribed to
            with contextlib.suppress(asyncio.QueueFull):  # the server asks for what it was not told
                self._deliveries.put_nowait(event)

    async def _deliver_all(self) -> None:
        async with httpx.AsyncClient(timeout=10) as client:
            while True:
                await self._deliver(client, await self._deliveries.get())

    async def _deliver(self, client: httpx.AsyncClient, event: StripeObject) -> None:
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


def _tax(session: StripeObject) -> int:
    taxed = session["automatic_tax"]["enabled"]
    return int(session["amount_subtotal"]) * _TAX_PERCENT // 100 if taxed else 0


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        given = json.loads(body[:_BODY_BYTES_MAX])
    except (ValueError, RecursionError):
        return {}
    return given if isinstance(given, dict) else {}


def _refused(refusal: StripeRefusal) -> Response:
    return JSONResponse(refusal.body, refusal.status)


def signature(payload: bytes, secret: str) -> str:
    """A `Stripe-Signature` header for a payload, made now."""
    at = int(time.time())
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
