"""What Stripe tells, and what it is asked where it does not tell.

A session's own event is taken at its word, which is signed. All others lead to a look at how things are.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Final, Literal

from app.config import Config
from app.errors import ChargeError, ShuttingDown, StripeUnavailable, Unavailable
from app.payments.gateway import Gateway
from app.payments.landing import Landing
from app.payments.messages import Charge, Intent, Invoice, Refund, Session, StripeEvent, id_of
from app.payments.refusals import StripeRefused
from app.payments.signing import parse_object
from app.payments.subscriptions import Subscriptions
from app.store import checkouts
from app.store.checkouts import PENDING, Checkout
from app.store.db import Database
from app.store.ids import now_ms
from app.store.marks import read_mark, set_mark

log = logging.getLogger("chargly.payments")

Received = Literal["handled", "ignored"]

_FAILED_LATER: Final = "checkout.session.async_payment_failed"
_OF_SESSIONS: Final = frozenset(
    {
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
        _FAILED_LATER,
        "checkout.session.expired",
    }
)
_OF_PAYMENTS: Final = frozenset({"payment_intent.succeeded", "payment_intent.payment_failed"})
_OF_MONEY: Final = frozenset(
    {
        "charge.refunded",
        "charge.refund.updated",
        "refund.created",
        "refund.updated",
        "refund.failed",
        "charge.dispute.created",
        "charge.dispute.updated",
        "charge.dispute.closed",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.funds_reinstated",
    }
)
_OF_INVOICES: Final = frozenset({"invoice.paid"})
HANDLED: Final = tuple(sorted(_OF_SESSIONS | _OF_PAYMENTS | _OF_MONEY | _OF_INVOICES))
"""The types of events to subscribe a webhook endpoint at Stripe to."""
_MARK: Final = "stripe.events"


class Signals:
    """Takes Stripe's events, and asks Stripe for what no event told."""

    def __init__(
        self,
        db: Database,
        gateway: Gateway,
        landing: Landing,
        subscriptions: Subscriptions,
        config: Config,
    ) -> None:
        self._db = db
        self._gateway = gateway
        self._landing = landing
        self._subscriptions = subscriptions
        self._limits = config.limits
        self._swept_at = -1e9
        self._taken: OrderedDict[str, None] = OrderedDict()
        """Events that need not be taken from Stripe's list: they were, or they were delivered to this process."""
        self._failing: dict[str, int] = {}
        """How often those of the list that cannot be taken were tried."""

    async def receive(self, event: StripeEvent) -> Received:
        """Takes an event. What is not ours, not real in this mode, or not known is ignored.

        Raises:
            InvalidRequest: its object is not what its type says.
            ChargeError: what it reports is not on disk; it is to be sent again.

        """
        received = await self._take(event)
        if received == "early":
            return "ignored"
        self._taken[event.id] = None
        if len(self._taken) > self._limits.stripe_events_remembered_max:
            self._taken.popitem(last=False)
        return received

    async def _take(self, event: StripeEvent) -> Received | Literal["early"]:
        """Takes an event; what is about a payment of ours that has not landed is early, and looked at again."""
        if not self._gateway.is_ours(event):
            return "ignored"
        if event.type in _OF_SESSIONS:
            return await self._of_session(event)
        if event.type in _OF_PAYMENTS:
            return await self._of_payment(parse_object(event.object, Intent))
        if event.type in _OF_MONEY:
            return await self._of_money(event)
        if event.type in _OF_INVOICES:
            found = await self._subscriptions.paid(parse_object(event.object, Invoice).id)
            return "handled" if found else "ignored"
        return "ignored"

    async def _of_session(self, event: StripeEvent) -> Received:
        session = parse_object(event.object, Session)
        checkout = await self._checkout((session.metadata or {}).get("chargly_checkout"))
        if checkout is None:
            return "ignored"
        if checkout.session_id not in (None, session.id):
            # A second session of one checkout: a request was tried again while Stripe's first answer was on its way.
            # Nobody was given its page, so it ends unpaid. If it was paid all the same, the checkout lands, once.
            if not session.is_paid:
                return "ignored"
            log.error(
                "session %s paid checkout %s, whose session is %s: refund it if both are paid",
                session.id,
                checkout.id,
                checkout.session_id,
            )
        if event.type == _FAILED_LATER:
            await checkouts.move(self._db, checkout, "failed", failure="payment_failed")
        else:
            await self._landing.by_session(checkout, session)
        return "handled"

    async def _of_payment(self, told: Intent) -> Received:
        checkout = await self._checkout(told.checkout_id)
        if checkout is None:
            return "ignored"
        if checkout.payment_intent == told.id:
            return "handled"
        await self._settle(checkout, told.id)
        return "handled"

    async def _settle(self, checkout: Checkout, intent_id: str | None) -> None:
        """Asks Stripe about a checkout that has not landed."""
        if checkout.kind == "checkout" and checkout.session_id is not None:
            await self._landing.by_session(checkout, await self._gateway.api.read_session(checkout.session_id))
        elif checkout.kind == "checkout" and intent_id is not None:
            # We never heard of its session: we broke off before Stripe's answer, and it was paid all the same.
            if (session := await self._gateway.api.session_of_payment(intent_id)) is not None:
                await self._landing.by_session(checkout, session)
        elif checkout.kind == "checkout":
            await self._landing.without_session(checkout)
        elif checkout.kind == "auto_top_up" and intent_id is not None:
            intent = await self._gateway.api.read_intent(intent_id)
            await self._landing.by_intent(checkout, intent)
            if intent.status not in ("succeeded", "processing") and checkout.status in PENDING:
                # The job that charged it ends it, and makes a page to pay instead.
                await checkouts.ask_later(self._db, checkout.id, now_ms())

    async def _of_money(self, event: StripeEvent) -> Received | Literal["early"]:
        """A refund or a dispute, each of which is looked up: what an event says of it may be old."""
        if event.type == "charge.refunded":
            charge = parse_object(event.object, Charge)
            intent_id, charge_id = id_of(charge.payment_intent), charge.id
        else:
            told = parse_object(event.object, Refund)  # a dispute names its payment in the same fields
            intent_id, charge_id = id_of(told.payment_intent), id_of(told.charge) or ""
        if intent_id is None and charge_id:
            intent_id = await self._gateway.api.payment_of_charge(charge_id)
        if intent_id is None:
            return "ignored"
        checkout = await checkouts.find_by_payment(self._db, intent_id)
        if checkout is None:
            is_ours = await self._land_first(intent_id)
            checkout = await checkouts.find_by_payment(self._db, intent_id) if is_ours else None
            if checkout is None:
                return "early" if is_ours else "ignored"
        await self._landing.by_money(checkout)
        return "handled"

    async def _land_first(self, intent_id: str) -> bool:
        """Lands what a payment paid before it is taken back; says whether the payment is ours at all."""
        intent = await self._gateway.api.read_intent(intent_id)
        if (checkout := await self._checkout(intent.checkout_id)) is not None:
            await self._settle(checkout, intent_id)
            if (landed := await self._checkout(checkout.id)) is not None:
                await self._landing.with_payment(landed)
            return True
        invoice_id = await self._gateway.api.invoice_of_payment(intent_id)
        return invoice_id is not None and await self._subscriptions.paid(invoice_id) is not None

    async def _checkout(self, checkout_id: str | None) -> Checkout | None:
        return await checkouts.find(self._db, checkout_id) if checkout_id else None

    # What no event told

    async def ask(self) -> None:
        """Asks Stripe about checkouts that are not settled, and now and then for events that did not arrive.

        Raises:
            ChargeError: the database is away, or Stripe is.

        """
        if not self._gateway.is_open:
            return
        await self._ask_about_open()
        if time.monotonic() - self._swept_at >= self._limits.stripe_sweep_seconds_between:
            self._swept_at = time.monotonic()
            await self._sweep()

    async def _ask_about_open(self) -> None:
        open_ones = await checkouts.to_ask(self._db, kind="checkout", limit=self._limits.stripe_asks_at_once)
        await asyncio.gather(*(self._ask_about(checkout) for checkout in open_ones))

    async def _ask_about(self, checkout: Checkout) -> None:
        try:
            await self._settle(checkout, None)
        except ChargeError as error:
            log.warning("checkout %s: %r", checkout.id, error)
        except Exception:  # it holds up no others
            log.exception("checkout %s", checkout.id)
        await checkouts.ask_later(self._db, checkout.id, self._next_ask(checkout))

    def _next_ask(self, checkout: Checkout) -> int | None:
        """The older, the more rarely; and never again once nothing can come of it any more. In milliseconds."""
        now = now_ms()
        age = (now - checkout.created_at) // 1000
        if age > self._limits.stripe_ask_seconds_max:
            return None
        return now + max(self._limits.stripe_ask_seconds_first, age // 4) * 1000

    async def _sweep(self) -> None:
        """Takes the events of late once more, from Stripe's own list: those that were delivered change nothing."""
        began = now_ms()
        mark = await read_mark(self._db, _MARK)
        if mark is None:  # from now on: what lay before was told, or was before us
            mark = began
            await set_mark(self._db, _MARK, mark)
        since = mark // 1000 - self._limits.stripe_sweep_overlap_seconds
        failed = 0
        async for event in self._gateway.api.events(HANDLED, since):
            if event.id in self._taken:
                continue
            try:
                await self.receive(event)
            except Exception as error:  # noqa: BLE001 - one that cannot be taken holds up no others
                failed += self._is_tried_again(event, error)
        if not failed:
            await set_mark(self._db, _MARK, began)
            self._failing.clear()

    def _is_tried_again(self, event: StripeEvent, error: Exception) -> bool:
        """Whether an event that could not be taken is tried once more; one that never can be holds up no others."""
        if isinstance(error, Unavailable | ShuttingDown | StripeUnavailable) and not isinstance(error, StripeRefused):
            log.warning("event %s of Stripe's list: %r", event.id, error)
            return True
        tries = self._failing[event.id] = self._failing.get(event.id, 0) + 1
        if tries < self._limits.stripe_event_tries_max:
            log.warning("event %s of Stripe's list: %r", event.id, error)
            return True
        log.error("event %s of Stripe's list is left out after %d tries: %r", event.id, tries, error)
        self._taken[event.id] = None
        del self._failing[event.id]
        return False
