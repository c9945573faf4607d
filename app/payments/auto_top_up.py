"""Automatic top-ups: the attempts that the ledger has decided on are charged to the saved card."""

import asyncio
import logging

from app.config import LOOPBACK, Config, url_host
from app.errors import ChargeError, StripeUnavailable
from app.payments.checkout import Checkouts
from app.payments.gateway import Gateway
from app.payments.landing import Landing
from app.payments.messages import Intent
from app.payments.refusals import CardDeclined, StripeRefused
from app.rules.wallet import AutoTopUp
from app.store import checkouts, reads, stripe_customers
from app.store.checkouts import Checkout
from app.store.db import Database
from app.store.ids import now_ms

log = logging.getLogger("chargly.payments")


class AutoTopUps:
    """Charges what is to be charged, one attempt for a wallet at a time."""

    def __init__(self, db: Database, gateway: Gateway, landing: Landing, made: Checkouts, config: Config) -> None:
        self._db = db
        self._gateway = gateway
        self._landing = landing
        self._checkouts = made
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
        except Exception:  # it holds up no others, and is not tried again at once
            log.exception("automatic top-up %s", attempt.id)
            await checkouts.ask_later(self._db, attempt.id, self._next_try(attempt))
            return False
        return True

    async def _charge(self, attempt: Checkout) -> None:
        made = await self._made_before(attempt) if attempt.asked else None
        if made is not None:
            await checkouts.ask_later(self._db, attempt.id, self._next_try(attempt))
            await self._settle(attempt, made)
            return
        wallet = await reads.wallet(self._db, attempt.customer_id)
        auto = wallet.auto_top_up if wallet else None
        if wallet is None or auto is None or not auto.enabled or auto.attempt != attempt.id or wallet.frozen:
            # Nothing was charged, and it is not wanted any more.
            reason = "wallet_frozen" if wallet is not None and wallet.frozen else "not_wanted"
            await self._landing.fail(attempt, reason, counts=False)
            return
        if (card := await self._card(attempt, auto)) is None:
            await self._landing.fail(attempt, "no_saved_card", pay_url=await self._pay_url(attempt))
            return
        sure = await checkouts.about_to_charge(self._db, attempt.id, *card, ask_at=self._next_try(attempt))
        if sure is not None:
            await self._settle(sure, await self._charged(sure))

    def _next_try(self, attempt: Checkout) -> int:
        """When it is asked about again if nothing comes of this: the longer nothing did, the later. In milliseconds."""
        limits = self._config.limits
        return now_ms() + max(limits.stripe_ask_seconds_first, (now_ms() - attempt.created_at) // 4000) * 1000

    async def _settle(self, attempt: Checkout, intent: Intent | CardDeclined) -> None:
        if isinstance(intent, Intent) and intent.status in ("succeeded", "processing"):
            await self._landing.by_intent(attempt, intent)
            return
        reason = intent.failure if isinstance(intent, Intent) else intent.reason
        await self._give_up(intent.id if isinstance(intent, Intent) else intent.intent)
        await self._landing.fail(attempt, reason, pay_url=await self._pay_url(attempt))

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

    async def _made_before(self, attempt: Checkout) -> Intent | None:
        """The payment that an earlier try left behind.

        Stripe knows the key of a try for a day at least. After that only its payments tell of it.
        """
        if attempt.stripe_customer is None:
            return None
        for intent in await self._gateway.api.intents_of(attempt.stripe_customer):
            if intent.checkout_id == attempt.id:
                return await self._gateway.api.read_intent(intent.id)
        return None

    async def _charged(self, attempt: Checkout) -> Intent | CardDeclined:
        try:
            return await self._gateway.charge(attempt)
        except CardDeclined as declined:
            return declined
        except StripeRefused as refused:
            return CardDeclined(refused.reason, None)

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
        if (base := self._base()) is None:
            log.warning("no page to pay %s instead: CHARGLY_PUBLIC_URL is not set", attempt.id)
            return None
        page = f"{base}/top-up/return?checkout={{checkout}}"
        minutes = self._config.limits.pay_page_minutes
        try:
            made, _ = await self._checkouts.create(
                attempt.customer_id, attempt.pack, page, f"{page}&canceled=1", save_card=True, minutes=minutes
            )
        except ChargeError as error:
            log.warning("no page to pay %s instead: %r", attempt.id, error)
            return None
        return made.url

    def _base(self) -> str | None:
        """Where a browser reaches us; no request is there to tell."""
        config = self._config
        if config.public_url is not None:
            return config.public_url
        return f"http://{url_host(config.host)}:{config.port}" if config.host in LOOPBACK else None
