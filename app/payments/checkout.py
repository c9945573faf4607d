"""A checkout: made, read until it is settled, and refunded from our side."""

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator

from msgspec.structs import replace

from app.config import Config
from app.errors import CheckoutNotPaid, InvalidRequest, NotFound, StripeNotConfigured, StripeUnavailable
from app.payments.gateway import Gateway
from app.payments.landing import Landing
from app.payments.messages import Session
from app.payments.refusals import StripeRefused
from app.rules.operations import AskRefund
from app.rules.packs import terms_of
from app.rules.taking_back import refundable
from app.store import checkouts, reads, stripe_customers
from app.store.catalogue import CatalogueStore
from app.store.checkouts import PENDING, Checkout
from app.store.db import Database
from app.store.ids import new_id, now_ms
from app.store.writer import Writer

log = logging.getLogger("chargly.payments")

_MINUTE_MS = 60_000


class Checkouts:
    """Makes checkouts, reads them, gives their money back."""

    def __init__(
        self,
        db: Database,
        writer: Writer,
        catalogue: CatalogueStore,
        gateway: Gateway,
        landing: Landing,
        config: Config,
    ) -> None:
        self._db = db
        self._writer = writer
        self._catalogue = catalogue
        self._gateway = gateway
        self._landing = landing
        self._config = config
        self._asked: OrderedDict[str, float] = OrderedDict()

    async def create(
        self,
        customer_id: str,
        pack_code: str,
        success_url: str,
        cancel_url: str,
        *,
        currency: str | None = None,
        amount: int | None = None,
        save_card: bool = False,
        email: str | None = None,
        minutes: int | None = None,
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
            currency: one that the pack is sold in; its own by default.
            amount: in minor units, where it is the buyer's choice.
            save_card: keeps the card for automatic top-ups.
            email: of the buyer, which Stripe's page then need not ask for.
            minutes: for which the page is open, by default as the limits say.
            key: the caller's idempotency key.
            request_hash: a hash of the request that the key came with.

        Raises:
            NotFound: there is no such pack.
            InvalidRequest: it is not sold in that currency or for that amount.
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
            raise NotFound(f"There is no pack {pack_code!r}; GET /v1/packs lists them.", field="pack", pack=pack_code)
        terms = terms_of(pack, currency=currency, amount=amount)
        buyer = await stripe_customers.find(self._db, customer_id)
        now = now_ms()
        minutes = minutes or self._config.limits.checkout_minutes
        checkout = await checkouts.create(
            self._db,
            Checkout(
                id=new_id("co", customer_id),
                customer_id=customer_id,
                pack=pack.code,
                description=f"{pack.name}: {terms.credits:,} credits",
                credits=terms.credits,
                amount=terms.amount,
                currency=terms.currency,
                status="open",
                created_at=now,
                expires_at=_expires_at(now, minutes),
                idempotency_key=key,
                request_hash=request_hash,
                bonus_credits=terms.bonus_credits,
                bonus_days=pack.bonus_days,
                save_card=save_card,
                stripe_customer=buyer.stripe_customer if buyer else None,
                ask_at=_expires_at(now, minutes),  # where Stripe never answers, it ends by itself
            ),
        )
        if checkout.url is not None:
            return _as_first_answered(checkout), True
        if checkout.expires_at < _expires_at(now, minutes) - _MINUTE_MS:  # tried again, later
            checkout = replace(checkout, expires_at=_expires_at(now, minutes))
        urls = success_url.replace("{checkout}", checkout.id), cancel_url.replace("{checkout}", checkout.id)
        session = await self._session(checkout, *urls, email)
        if session.url is None:
            raise StripeUnavailable
        opened = await checkouts.opened(
            self._db,
            checkout.id,
            session.id,
            session.url,
            expires_at=session.expires_at * 1000 if session.expires_at else checkout.expires_at,
            ask_at=now + self._config.limits.stripe_ask_seconds_first * 1000,
        )
        return opened, False

    async def _session(self, checkout: Checkout, success_url: str, cancel_url: str, email: str | None) -> Session:
        try:
            return await self._gateway.create_session(checkout, success_url, cancel_url, email=email)
        except StripeRefused as refused:
            if refused.param != "customer" or checkout.stripe_customer is None:
                raise
            # Deleted at Stripe, or of the other mode. The buyer becomes a new customer there.
            await stripe_customers.forget(self._db, checkout.customer_id, checkout.stripe_customer)
            anew = replace(checkout, stripe_customer=None)
            return await self._gateway.create_session(anew, success_url, cancel_url, email=email)

    async def read(self, checkout_id: str) -> Checkout:
        """A checkout; one that is not settled yet is first asked about at Stripe, within its named interval.

        Raises:
            NotFound: there is none.

        """
        checkout = await self.find(checkout_id)
        if checkout.kind != "checkout" or checkout.status not in PENDING:
            return checkout
        if checkout.session_id is None:
            await self._landing.without_session(checkout)
            return await self.find(checkout_id)
        if not self._gateway.is_open or not self._may_ask(checkout_id):
            return checkout
        try:
            await self._landing.by_session(checkout, await self._gateway.api.read_session(checkout.session_id))
        except StripeUnavailable:
            return checkout
        return await self.find(checkout_id)

    async def refund(
        self,
        checkout: Checkout,
        amount: int | None,
        *,
        reason: str | None = None,
        actor: str | None = None,
        key: str | None = None,
        request_hash: str | None = None,
    ) -> tuple[Checkout, bool]:
        """Gives a payment's money back, and takes its credits with it; gives the checkout, and whether it is a replay.

        That it was asked for is in the ledger before Stripe is asked, under an id that Stripe is given as its key: a
        request that is sent again with its own key refunds once, wherever the first one broke off.

        Args:
            checkout: one that was paid.
            amount: in minor units of its currency; all that is left by default.
            reason: in the operator's words, for the ledger.
            actor: who asks.
            key: the caller's idempotency key.
            request_hash: a hash of the request that the key came with.

        Raises:
            CheckoutNotPaid: there is no money to give back.
            InvalidRequest: it is more than is left, or Stripe refuses.
            IdempotencyConflict: the key came with another request before.
            StripeNotConfigured, StripeUnavailable: whether it was refunded is not known; send it again with its key.

        """
        with _refused_as_a_refund():
            checkout = await self._landing.with_payment(checkout)
            if checkout.payment_intent is None:
                raise CheckoutNotPaid(checkout_id=checkout.id, status=checkout.status)
            first = await reads.entry_with_key(self._db, checkout.customer_id, key) if key is not None else None
            if first is None:
                amount = await self._refundable(checkout, checkout.payment_intent, amount)
        asked = await self._writer.submit(
            AskRefund(
                customer_id=checkout.customer_id,
                id=new_id("rfd", checkout.customer_id),
                actor=actor,
                key=key,
                request_hash=request_hash,
                checkout_id=checkout.id,
                description=checkout.description.partition(":")[0],
                amount=amount or 0,
                reason=reason,
            )
        )
        assert asked.entry is not None
        assert asked.entry.detail is not None
        to_refund = asked.entry.detail["refund"]["amount"]
        with _refused_as_a_refund():
            await self._make_refund(checkout, checkout.payment_intent, asked.entry.id, to_refund, again=asked.replayed)
        await self._landing.by_money(checkout)
        return await self.find(checkout.id), asked.replayed

    async def _make_refund(
        self, checkout: Checkout, intent_id: str, request_id: str, amount: int, *, again: bool
    ) -> None:
        """Asks Stripe for a refund, once. It forgets keys after a day, so its refunds themselves are looked at."""
        if again and request_id in (await self._gateway.read_payment(intent_id)).requests:
            return
        metadata = {"chargly_checkout": checkout.id, "chargly_refund": request_id}
        fields = {"payment_intent": intent_id, "amount": amount, "metadata": metadata}
        await self._gateway.api.create_refund(fields, request_id)

    async def _refundable(self, checkout: Checkout, intent_id: str, amount: int | None) -> int:
        payment = await self._gateway.read_payment(intent_id)
        left = refundable(payment.charged, payment.refunded, payment.disputed)
        amount = left if amount is None else amount
        if not 1 <= amount <= left:
            raise InvalidRequest(
                f"amount: {left} minor units of {checkout.currency} are left to refund.", field="amount", left=left
            )
        return amount

    async def find(self, checkout_id: str) -> Checkout:
        """A checkout as it is kept.

        Raises:
            NotFound: there is none.

        """
        checkout = await checkouts.find(self._db, checkout_id)
        if checkout is None:
            raise NotFound("There is no such checkout.", checkout_id=checkout_id)
        return checkout

    def _may_ask(self, checkout_id: str) -> bool:
        now = time.monotonic()
        if now - self._asked.get(checkout_id, -1e9) < self._config.limits.stripe_reread_seconds_min:
            return False
        self._asked[checkout_id] = now
        self._asked.move_to_end(checkout_id)
        if len(self._asked) > self._config.limits.checkout_rereads_remembered_max:
            self._asked.popitem(last=False)
        return True


def _expires_at(now: int, minutes: int) -> int:
    """When a session made now ends: to the minute, and up to two later, for Stripe takes no less than thirty."""
    return (now // _MINUTE_MS + minutes + 2) * _MINUTE_MS


def _as_first_answered(checkout: Checkout) -> Checkout:
    """A checkout whose session is there was open when its request was first answered."""
    return replace(checkout, status="open")


@contextlib.contextmanager
def _refused_as_a_refund() -> Iterator[None]:
    try:
        yield
    except StripeRefused as refused:
        raise InvalidRequest(
            f"Stripe refused this refund ({refused.reason}).", field="amount", stripe_code=refused.reason
        ) from refused
