"""A checkout from its making to the credits that land, whoever reports the payment and however often."""

import logging
import time
from collections import OrderedDict
from typing import Literal

from msgspec.structs import replace

from app.config import Config
from app.errors import InvalidRequest, NotFound, StripeNotConfigured, StripeUnavailable
from app.payments.gateway import Gateway
from app.payments.messages import Session, StripeEvent, parse_session
from app.rules.operations import TopUp, derived_id
from app.store import checkouts
from app.store.catalogue import CatalogueStore
from app.store.checkouts import Checkout
from app.store.db import Database
from app.store.ids import new_id, now_ms
from app.store.writer import Writer

log = logging.getLogger("chargly.payments")

_MINUTE_MS = 60_000
SESSION_EVENTS = frozenset(
    {
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
        "checkout.session.expired",
    }
)


class Checkouts:
    """Makes checkouts and lands their credits."""

    def __init__(
        self, db: Database, writer: Writer, catalogue: CatalogueStore, gateway: Gateway, config: Config
    ) -> None:
        self._db = db
        self._writer = writer
        self._catalogue = catalogue
        self._gateway = gateway
        self._config = config
        self._asked: OrderedDict[str, float] = OrderedDict()

    async def create(
        self,
        customer_id: str,
        pack_code: str,
        success_url: str,
        cancel_url: str,
        *,
        key: str | None = None,
        request_hash: str | None = None,
    ) -> tuple[Checkout, bool]:
        """Makes a checkout: our row first, then Stripe's session, so that no payment is unknown to us.

        Returns it, and whether the same request had made it before.

        Args:
            customer_id: whose wallet it will fill; it need not exist yet.
            pack_code: what is bought.
            success_url: where Stripe sends the buyer after paying; `{checkout}` in it becomes the checkout's id.
            cancel_url: where it sends one who turns back, likewise.
            key: the caller's idempotency key.
            request_hash: a hash of the request that the key came with.

        Raises:
            InvalidRequest: there is no such pack.
            IdempotencyConflict: the key came with another request before.
            StripeNotConfigured, StripeUnavailable: no session, and nothing was charged.

        """
        if not self._config.stripe_configured:
            raise StripeNotConfigured
        if key is not None:
            first = await checkouts.find_by_key(self._db, customer_id, key, request_hash)
            if first is not None and first.url is not None:
                return _as_first_answered(first), True
        pack = await self._catalogue.pack(pack_code)
        if pack is None:
            raise InvalidRequest(f"There is no pack {pack_code!r}; GET /v1/packs lists them.", field="pack")
        now = now_ms()
        checkout = await checkouts.create(
            self._db,
            Checkout(
                id=new_id("co", customer_id),
                customer_id=customer_id,
                pack=pack.code,
                description=f"{pack.name}: {pack.credits:,} credits",
                credits=pack.credits,
                amount=pack.amount,
                currency=pack.currency,
                status="open",
                created_at=now,
                expires_at=self._expires_at(now),
                idempotency_key=key,
                request_hash=request_hash,
            ),
        )
        if checkout.url is not None:
            return _as_first_answered(checkout), True
        if checkout.expires_at < self._expires_at(now) - _MINUTE_MS:  # tried again, later
            checkout = replace(checkout, expires_at=self._expires_at(now))
        session = await self._gateway.create_session(
            checkout, success_url.replace("{checkout}", checkout.id), cancel_url.replace("{checkout}", checkout.id)
        )
        if session.url is None:
            raise StripeUnavailable
        expires_at = session.expires_at * 1000 if session.expires_at else checkout.expires_at
        return await checkouts.opened(self._db, checkout.id, session.id, session.url, expires_at), False

    async def read(self, checkout_id: str) -> Checkout:
        """A checkout; one that is not settled yet is first asked about at Stripe, within its named interval.

        Raises:
            NotFound: there is none.

        """
        checkout = await self._find(checkout_id)
        if checkout.session_id is None and checkout.status == "open" and checkout.expires_at < now_ms():
            return replace(checkout, status="expired")  # Stripe never answered with a page where it could be paid
        if checkout.session_id is None or checkout.status not in ("open", "processing"):
            return checkout
        if not self._config.stripe_configured or not self._may_ask(checkout_id):
            return checkout
        try:
            await self._settle(checkout, await self._gateway.read_session(checkout.session_id))
        except StripeUnavailable:
            return checkout
        return await self._find(checkout_id)

    async def receive(self, event: StripeEvent) -> Literal["handled", "ignored"]:
        """Takes a signed event. What is not ours, not real in this mode, or not known is ignored."""
        if event.type not in SESSION_EVENTS or event.livemode != self._gateway.livemode:
            return "ignored"
        session = parse_session(event.object)
        checkout_id = (session.metadata or {}).get("chargly_checkout")
        checkout = await checkouts.find(self._db, checkout_id) if checkout_id else None
        if checkout is None:
            return "ignored"
        if checkout.session_id not in (None, session.id):
            # A second session of one checkout: a request was tried again while Stripe's first answer was on its way.
            # Nobody was given its page, so it ends unpaid. If it was paid all the same, the checkout lands, once.
            if not _is_paid(session):
                return "ignored"
            log.error(
                "session %s paid checkout %s, whose session is %s: refund it if both are paid",
                session.id,
                checkout.id,
                checkout.session_id,
            )
        if event.type == "checkout.session.async_payment_failed":
            await checkouts.move(self._db, checkout.id, "failed")
        else:
            await self._settle(checkout, session)
        return "handled"

    async def _settle(self, checkout: Checkout, session: Session) -> None:
        if session.status == "expired":
            await checkouts.move(self._db, checkout.id, "expired")
        elif _is_paid(session):
            await self._land(checkout, session)
        elif session.status == "complete":
            await checkouts.move(self._db, checkout.id, "processing")

    async def _land(self, checkout: Checkout, session: Session) -> None:
        if (session.currency, session.amount_subtotal) != (checkout.currency, checkout.amount):
            log.error(
                "session %s is over %s %s and its checkout %s over %s %s: nothing was granted",
                session.id,
                session.amount_subtotal,
                session.currency,
                checkout.id,
                checkout.amount,
                checkout.currency,
            )
            return
        await self._writer.submit(
            TopUp(
                customer_id=checkout.customer_id,
                id=derived_id("top", checkout.id),
                actor="stripe",
                credits=checkout.credits,
                checkout_id=checkout.id,
                description=f"Top-up: {checkout.description.partition(':')[0]}",
                amount=checkout.amount,
                currency=checkout.currency,
            )
        )

    async def _find(self, checkout_id: str) -> Checkout:
        checkout = await checkouts.find(self._db, checkout_id)
        if checkout is None:
            raise NotFound("There is no such checkout.", checkout_id=checkout_id)
        return checkout

    def _expires_at(self, now: int) -> int:
        """When a session made now ends: to the minute, and one later, for Stripe takes no less than thirty."""
        return (now // _MINUTE_MS + self._config.limits.checkout_minutes + 2) * _MINUTE_MS

    def _may_ask(self, checkout_id: str) -> bool:
        now = time.monotonic()
        if now - self._asked.get(checkout_id, -1e9) < self._config.limits.stripe_reread_seconds_min:
            return False
        self._asked[checkout_id] = now
        self._asked.move_to_end(checkout_id)
        if len(self._asked) > self._config.limits.checkout_rereads_remembered_max:
            self._asked.popitem(last=False)
        return True


def _is_paid(session: Session) -> bool:
    return session.status == "complete" and session.payment_status in ("paid", "no_payment_required")


def _as_first_answered(checkout: Checkout) -> Checkout:
    """A checkout whose session is there was open when its request was first answered."""
    return replace(checkout, status="open")
