"""Automatic top-ups: the attempts that the ledger has decided on are charged to the saved card."""

import asyncio
import logging

from app.config import Config, url_host
from app.errors import ChargeError, StripeUnavailable
from app.payments.checkout import Checkouts
from app.payments.gateway import Gateway
from app.payments.landing import Landing
from app.payments.messages import Intent
from app.payments.refusals import CardDeclined, StripeRefused
from app.rules.wallet import AutoTopUp, Wallet
from app.store import checkouts, reads, stripe_customers
from app.store.checkouts import Checkout
from app.store.db import Database
from app.store.ids import now_ms

log = logging.getLogger("chargly.payments")

_DAY_MINUTES = 24 * 60 - 10
"""For how long a page to pay instead is open: Stripe's longest, and some minutes less."""


class AutoTopUps:
    """Charges what is to be charged, one attempt for a wallet at a time."""

    def __init__(self, db: Database, gateway: Gateway, landing: Landing, pages: Checkouts, config: Config) -> None:
        self._db = db
        self._gateway = gateway
        self._landing = landing
        self._pages = pages
        self._config = config

    async def charge_due(self) -> bool:
        """Charges the attempts that are due; says whether there may be more."""
        most = self._config.limits.auto_top_ups_at_once
        due = await checkouts.to_ask(self._db, kind="auto_top_up", limit=most)
        # Side by side: a Stripe that is slow for one wallet keeps no other waiting.
        charged = await asyncio.gather(*(self._charge_or_log(attempt) for attempt in due))
        return len(due) == most and all(charged)

    async def _charge_or_log(self, attempt: Checkout) -> bool:
        try:
            await self._charge(attempt)
        except ChargeError as error:  # it is not known what became of it, so it is asked again
            log.warning("automatic top-up %s: %r", attempt.id, error)
            return False
        return True

    async def _charge(self, attempt: Checkout) -> None:
        wallet = await reads.wallet(self._db, attempt.customer_id)
        auto = wallet.auto_top_up if wallet else None
        if not attempt.asked and (wallet is None or auto is None or auto.attempt != attempt.id or wallet.frozen):
            # Nothing was charged yet, and it is not wanted any more.
            await self._drop(attempt, wallet)
            return
        if (card := await self._card(attempt, auto)) is None:
            await self._landing.fail(attempt, "no_saved_card", pay_url=await self._pay_url(attempt))
            return
        pause = self._config.limits.stripe_ask_seconds_first * 1000 * (1 + min(attempt.asked, 60))
        sure = await checkouts.about_to_charge(self._db, attempt.id, *card, ask_at=now_ms() + pause)
        if sure is None:
            return
        intent = await self._intent(sure, is_first=not attempt.asked)
        if isinstance(intent, Intent) and intent.status in ("succeeded", "processing"):
            await self._landing.by_intent(sure, intent)
            return
        reason = intent.failure if isinstance(intent, Intent) else intent.reason
        await self._give_up(intent.id if isinstance(intent, Intent) else intent.intent)
        await self._landing.fail(sure, reason, pay_url=await self._pay_url(sure))

    async def _drop(self, attempt: Checkout, wallet: Wallet | None) -> None:
        reason = "wallet_frozen" if wallet is not None and wallet.frozen else "not_wanted"
        await self._landing.fail(attempt, reason, counts=False)

    async def _card(self, attempt: Checkout, auto: AutoTopUp | None) -> tuple[str, str] | None:
        """Stripe's customer and payment method: those of the first try, those of the settings, or those saved last."""
        if attempt.stripe_customer and attempt.payment_method:
            return attempt.stripe_customer, attempt.payment_method
        if auto is not None and auto.stripe_customer and auto.payment_method:
            return auto.stripe_customer, auto.payment_method
        saved = await stripe_customers.find(self._db, attempt.customer_id)
        if saved is None or saved.payment_method is None:
            return None
        return saved.stripe_customer, saved.payment_method

    async def _intent(self, attempt: Checkout, *, is_first: bool) -> Intent | CardDeclined:
        """The payment of an attempt: the one that an earlier try left behind, or one that is made now.

        Stripe knows the key of a try for a day at least. After that only its payments tell of it.
        """
        if not is_first and attempt.stripe_customer is not None:
            for intent in await self._gateway.api.intents_of(attempt.stripe_customer):
                if intent.checkout_id == attempt.id:
                    return await self._gateway.api.read_intent(intent.id)
        try:
            made: Intent = await self._gateway.charge(attempt)
        except CardDeclined as declined:
            return declined
        except StripeRefused as refused:
            return CardDeclined(refused.reason, None)
        return made

    async def _give_up(self, intent_id: str | None) -> None:
        """Ends a payment that failed, so that it is not paid later beside the one that the customer makes instead."""
        if intent_id is None:
            return
        try:
            await self._gateway.api.cancel_intent(intent_id)
        except StripeUnavailable as error:
            log.warning("payment %s stays open: %r", intent_id, error)

    async def _pay_url(self, attempt: Checkout) -> str | None:
        """A page where the customer may pay what the card did not, and leave one that works."""
        config = self._config
        base = config.public_url or f"http://{url_host(config.host)}:{config.port}"
        page = f"{base}/top-up/return?checkout={{checkout}}"
        try:
            made, _ = await self._pages.create(
                attempt.customer_id, attempt.pack, page, f"{page}&canceled=1", save_card=True, minutes=_DAY_MINUTES
            )
        except ChargeError as error:
            log.warning("no page to pay %s instead: %r", attempt.id, error)
            return None
        return made.url
