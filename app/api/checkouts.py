"""Buying credits: a checkout at Stripe, and Stripe's word that it was paid."""

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Name, Strict
from app.api.http import REPLAYED, Answer, Call, Route
from app.api.origins import allowed_page
from app.errors import (
    ForbiddenScope,
    IdempotencyConflict,
    InvalidRequest,
    NotFound,
    StripeNotConfigured,
    StripeUnavailable,
)
from app.rules.times import rfc3339
from app.store.checkouts import Checkout

_URL_LENGTH_MAX = 2_000


class CheckoutRequest(Strict, frozen=True, kw_only=True):
    """A pack to buy, and where the buyer returns to."""

    customer_id: str
    pack: Name
    success_url: str | None = None
    cancel_url: str | None = None
    idempotency_key: str | None = None


class CheckoutAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A checkout: `url` is where it is paid, `amount` is in minor units of `currency`."""

    id: str
    customer_id: str
    pack: str
    url: str | None
    credits: int
    amount: int
    currency: str
    status: str
    created_at: str
    expires_at: str


class StatusAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the buyer's return page shows: whether it is paid, and for how many credits."""

    id: str
    status: str
    credits: int
    amount: int
    currency: str


class WebhookAnswer(msgspec.Struct, frozen=True):
    """What became of an event: `handled`, or `ignored` where it is none of ours."""

    received: str


async def create_checkout(call: Call) -> Answer:
    """Makes a checkout at Stripe."""
    body: CheckoutRequest = call.body
    customer_id = fields.customer(body.customer_id)
    call.owns(customer_id)
    key, request_hash = call.idempotency()
    ours = f"{call.services.config.public_url or call.origin}/top-up/return?checkout={{checkout}}"
    checkout, replayed = await call.services.checkouts.create(
        customer_id,
        body.pack,
        _page(call, body.success_url, "success_url") or ours,
        _page(call, body.cancel_url, "cancel_url") or f"{ours}&canceled=1",
        key=key,
        request_hash=request_hash,
    )
    return Answer(checkout_answer(checkout), 201, REPLAYED if replayed else ())


def _page(call: Call, url: str | None, field: str) -> str | None:
    if url is None:
        return None
    host = call.headers.get(b"host", b"").decode("latin-1")
    if len(url) > _URL_LENGTH_MAX or not url.isprintable() or not allowed_page(url, host, call.services.config):
        raise InvalidRequest(
            f"{field}: a page on this server's origin, or on one that CHARGLY_ALLOWED_ORIGINS names.", field=field
        )
    return url.replace("{checkout}", "%7Bcheckout%7D")


async def read_checkout(call: Call) -> Answer:
    """A checkout; one that is still open is first asked about at Stripe."""
    checkout = await call.services.checkouts.read(call.params["checkout_id"])
    if call.credential.customer_id not in (None, checkout.customer_id):
        raise NotFound("There is no such checkout.", checkout_id=checkout.id)
    return Answer(checkout_answer(checkout))


async def read_status(call: Call) -> Answer:
    """What the buyer's return page may know. Its id, which nobody can guess, is the credential."""
    checkout = await call.services.checkouts.read(call.params["checkout_id"])
    return Answer(
        StatusAnswer(
            id=checkout.id,
            status=checkout.status,
            credits=checkout.credits,
            amount=checkout.amount,
            currency=checkout.currency,
        ),
        headers=((b"cache-control", b"no-store"),),
    )


async def stripe_webhook(call: Call) -> Answer:
    """Takes Stripe's signed events; answers 200 once what they report is on disk."""
    signature = call.headers.get(b"stripe-signature")
    event = call.services.gateway.read_event(call.raw, None if signature is None else signature.decode("latin-1"))
    return Answer(WebhookAnswer(await call.services.checkouts.receive(event)))


def checkout_answer(checkout: Checkout) -> CheckoutAnswer:
    """A checkout as the contract shows it."""
    return CheckoutAnswer(
        id=checkout.id,
        customer_id=checkout.customer_id,
        pack=checkout.pack,
        url=checkout.url,
        credits=checkout.credits,
        amount=checkout.amount,
        currency=checkout.currency,
        status=checkout.status,
        created_at=rfc3339(checkout.created_at),
        expires_at=rfc3339(checkout.expires_at),
    )


ROUTES = (
    Route(
        method="POST",
        path="/v1/checkouts",
        access=Access("meter", "top_up"),
        handler=create_checkout,
        summary="Buy a pack",
        request=CheckoutRequest,
        answers={201: CheckoutAnswer},
        errors=(IdempotencyConflict, StripeNotConfigured, StripeUnavailable, ForbiddenScope),
    ),
    Route(
        method="GET",
        path="/v1/checkouts/{checkout_id}",
        access=Access("meter", "top_up"),
        handler=read_checkout,
        summary="Read a checkout",
        answers={200: CheckoutAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="GET",
        path="/v1/checkouts/{checkout_id}/status",
        access=Access(),
        handler=read_status,
        summary="See whether a checkout is paid",
        answers={200: StatusAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="POST",
        path="/v1/stripe/webhook",
        access=Access(),
        handler=stripe_webhook,
        summary="Take Stripe's events",
        request=bytes,
        answers={200: WebhookAnswer},
        errors=(InvalidRequest, StripeNotConfigured),
    ),
)
