"""Buying credits: a checkout at Stripe, and Stripe's word that it was paid."""

import re
from typing import Final, get_args

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Currency, Email, MinorUnits, Name, Reason, Strict
from app.api.http import REPLAYED, Answer, Call, Route
from app.api.origins import allowed_page
from app.errors import (
    CheckoutNotPaid,
    ForbiddenScope,
    IdempotencyConflict,
    InvalidRequest,
    NotFound,
    StripeNotConfigured,
    StripeUnavailable,
)
from app.rules.times import rfc3339
from app.store import checkouts
from app.store.checkouts import Checkout, Status

_URL_LENGTH_MAX = 2_000
_OF_BROWSERS: Final = "browser:"
_STATUSES: Final = get_args(Status)


class CheckoutRequest(Strict, frozen=True, kw_only=True):
    """A pack to buy, and where the buyer returns to."""

    customer_id: str
    pack: Name
    currency: Currency | None = None
    amount: MinorUnits | None = None
    success_url: str | None = None
    cancel_url: str | None = None
    save_card: bool = False
    customer_email: Email | None = None
    idempotency_key: str | None = None


class RefundRequest(Strict, frozen=True, kw_only=True):
    """Money to give back: in minor units, all that is left by default; a reason for the ledger."""

    amount: MinorUnits | None = None
    reason: Reason | None = None
    idempotency_key: str | None = None


class CheckoutAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase: `url` is where it is paid, amounts are in minor units of `currency`.

    `kind` says how it came about, `amount_paid` what was charged with tax and less a promotion, None where it is not
    paid. Of that, so much was refunded and is disputed.
    """

    id: str
    customer_id: str
    kind: str
    pack: str
    url: str | None
    credits: int
    bonus_credits: int
    amount: int
    currency: str
    status: str
    amount_paid: int | None
    amount_refunded: int
    amount_disputed: int
    failure: str | None
    created_at: str
    expires_at: str


class CheckoutsAnswer(msgspec.Struct, frozen=True):
    """A page of purchases, newest first."""

    checkouts: list[CheckoutAnswer]
    next_cursor: str | None


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
    if key is not None and call.credential.customer_id is not None:
        key = f"{_OF_BROWSERS}{key}"  # a browser takes no key that its backend might meter with
    ours = f"{call.services.config.public_url or call.origin}/top-up/return?checkout={{checkout}}"
    checkout, replayed = await call.services.checkouts.create(
        customer_id,
        body.pack,
        _page(call, body.success_url, "success_url") or ours,
        _page(call, body.cancel_url, "cancel_url") or f"{ours}&canceled=1",
        currency=body.currency,
        amount=body.amount,
        save_card=body.save_card,
        email=body.customer_email,
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


async def list_checkouts(call: Call) -> Answer:
    """A page of purchases, of one customer or of all."""
    customer_id = call.query.get("customer_id")
    status = call.query.get("status")
    if status is not None and status not in _STATUSES:
        raise InvalidRequest(f"status: one of {', '.join(_STATUSES)}.", field="status")
    found, last = await checkouts.page_of(
        call.services.db,
        None if customer_id is None else fields.customer(customer_id),
        status=status,
        limit=fields.limit(call),
        before=_place(call),
    )
    cursor = None if last is None else fields.make_cursor(f"{last[0]}:{last[1]}")
    return Answer(CheckoutsAnswer([checkout_answer(one) for one in found], cursor))


def _place(call: Call) -> tuple[int, str] | None:
    cursor = fields.cursor(call)
    if cursor is None:
        return None
    at, _, checkout_id = cursor.partition(":")
    if not re.fullmatch(r"[0-9]{1,15}", at):
        raise InvalidRequest("cursor: take it from next_cursor as it is.", field="cursor")
    return int(at), checkout_id


async def refund_checkout(call: Call) -> Answer:
    """Gives a purchase's money back at Stripe, and takes its credits with it."""
    body: RefundRequest = call.body
    key, request_hash = call.idempotency()
    checkout = await call.services.checkouts.find(call.params["checkout_id"])
    refunded, replayed = await call.services.checkouts.refund(
        checkout,
        body.amount,
        reason=fields.printable(body.reason, "reason"),
        actor=call.actor,
        key=key,
        request_hash=request_hash,
    )
    return Answer(checkout_answer(refunded), headers=REPLAYED if replayed else ())


async def stripe_webhook(call: Call) -> Answer:
    """Takes Stripe's signed events; answers 200 once what they report is on disk."""
    signature = call.headers.get(b"stripe-signature")
    event = call.services.gateway.read_event(call.raw, None if signature is None else signature.decode("latin-1"))
    return Answer(WebhookAnswer(await call.services.signals.receive(event)))


def checkout_answer(checkout: Checkout) -> CheckoutAnswer:
    """A checkout as the contract shows it."""
    return CheckoutAnswer(
        id=checkout.id,
        customer_id=checkout.customer_id,
        kind=checkout.kind,
        pack=checkout.pack,
        url=checkout.url,
        credits=checkout.credits,
        bonus_credits=checkout.bonus_credits,
        amount=checkout.amount,
        currency=checkout.currency,
        status=checkout.status,
        amount_paid=checkout.amount_paid,
        amount_refunded=checkout.amount_refunded,
        amount_disputed=checkout.amount_disputed,
        failure=checkout.failure,
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
        errors=(NotFound, IdempotencyConflict, StripeNotConfigured, StripeUnavailable, ForbiddenScope),
    ),
    Route(
        method="GET",
        path="/v1/checkouts",
        access=Access("meter"),
        handler=list_checkouts,
        summary="List purchases",
        query=("customer_id", "status", "limit", "cursor"),
        answers={200: CheckoutsAnswer},
    ),
    Route(
        method="POST",
        path="/v1/checkouts/{checkout_id}/refund",
        access=Access("admin"),
        handler=refund_checkout,
        summary="Refund a purchase",
        request=RefundRequest,
        optional_body=True,
        answers={200: CheckoutAnswer},
        errors=(NotFound, CheckoutNotPaid, IdempotencyConflict, StripeNotConfigured, StripeUnavailable),
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
