"""The door to Stripe: whether there is one, what it is told of a checkout, and what may come in by it."""

import logging
import time
from typing import TYPE_CHECKING, Any

from app.config import Config
from app.errors import StripeNotConfigured
from app.payments.messages import Intent, Payment, Session, StripeEvent
from app.payments.signing import check_signature, parse_event
from app.store.checkouts import Checkout

if TYPE_CHECKING:
    from app.payments.stripe_api import StripeApi

log = logging.getLogger("chargly.payments")


class Gateway:
    """What passes between the ledger and Stripe. Without a key it asks nothing."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stripe = _connected(config)
        self._wrong_mode_told = False

    @property
    def is_open(self) -> bool:
        """Whether Stripe can be asked."""
        return self._stripe is not None

    @property
    def livemode(self) -> bool:
        """Whether the key moves real money."""
        key = self._config.stripe_secret_key or ""
        return key.startswith(("sk_live_", "rk_live_"))

    @property
    def api(self) -> "StripeApi":
        """Stripe's calls.

        Raises:
            StripeNotConfigured: this server has no Stripe key.

        """
        if self._stripe is None:
            raise StripeNotConfigured
        return self._stripe

    async def create_session(
        self, checkout: Checkout, success_url: str, cancel_url: str, *, email: str | None = None
    ) -> Session:
        """Asks Stripe for a page where the checkout is paid.

        Args:
            checkout: what is bought; its `stripe_customer`, if any, is who buys.
            success_url: where the buyer goes from there.
            cancel_url: where one goes who turns back.
            email: of a buyer whom Stripe does not know yet.

        Raises:
            StripeNotConfigured: this server has no Stripe key.
            StripeUnavailable: Stripe failed, refused or timed out.

        """
        ours = known_by(checkout)
        payment: dict[str, Any] = {"metadata": ours}
        if checkout.save_card:
            payment["setup_future_usage"] = "off_session"
        fields: dict[str, Any] = {
            "mode": "payment",
            "client_reference_id": checkout.id,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": checkout.currency,
                        "unit_amount": checkout.amount,
                        "product_data": {"name": checkout.description},
                    },
                }
            ],
            "metadata": ours,
            "payment_intent_data": payment,
            "success_url": success_url,
            "cancel_url": cancel_url,
            "expires_at": checkout.expires_at // 1000,
        }
        if checkout.stripe_customer is not None:
            fields["customer"] = checkout.stripe_customer
        else:
            fields |= {"customer_creation": "always"} | ({"customer_email": email} if email else {})
        if self._config.promotion_codes:
            fields["allow_promotion_codes"] = True
        if self._config.automatic_tax:
            fields["automatic_tax"] = {"enabled": True}
            if checkout.stripe_customer is not None:  # a known buyer's address is kept as it is typed
                fields["customer_update"] = {"address": "auto"}
        buyer = f"-{checkout.stripe_customer}" if checkout.stripe_customer else ""
        return await self.api.create_session(fields, f"{checkout.id}-{checkout.expires_at // 1000}{buyer}")

    async def charge(self, checkout: Checkout) -> Intent:
        """Charges the saved card of an automatic top-up. However often it is asked, the card is charged once.

        Raises:
            CardDeclined: the bank refuses, or wants its customer present.
            StripeNotConfigured, StripeUnavailable: it is not known whether it was charged; ask again.
            StripeRefused: it was not charged.

        """
        fields = {
            "amount": checkout.amount,
            "currency": checkout.currency,
            "customer": checkout.stripe_customer,
            "payment_method": checkout.payment_method,
            "off_session": True,
            "confirm": True,
            "description": checkout.description,
            "metadata": known_by(checkout),
        }
        return await self.api.create_intent(fields, checkout.id)

    async def read_payment(self, intent_id: str) -> Payment:
        """A payment's money as Stripe has it now: refunds that failed and disputes that were won count no more.

        Fails as `create_session` does.
        """
        intent = await self.api.read_intent(intent_id)
        refunds = await self.api.refunds_of(intent_id)
        disputes = [one for one in await self.api.disputes_of(intent_id) if one.takes]
        # A bank's own currency says nothing of how large a part of ours it wants: then it is all.
        disputed = sum(one.amount if one.currency in (None, intent.currency) else intent.charged for one in disputes)
        return Payment(
            requests=frozenset(one.asked_by for one in refunds),
            charged=intent.charged,
            refunded=sum(one.amount for one in refunds if one.gives),
            disputed=disputed,
        )

    def read_event(self, payload: bytes, signature: str | None) -> StripeEvent:
        """A webhook's event, after its signature has been checked.

        Raises:
            StripeNotConfigured: there is no secret to check it with.
            InvalidRequest: unsigned, forged, more than five minutes old or early, or no event.

        """
        secrets = self._config.stripe_webhook_secrets
        if not secrets:
            raise StripeNotConfigured
        check_signature(
            payload, signature, secrets, int(time.time()), self._config.limits.stripe_webhook_tolerance_seconds
        )
        return parse_event(payload)

    def is_ours(self, event: StripeEvent) -> bool:
        """Whether an event is of this account and of this mode: test money buys nothing in earnest.

        An event of a connected account carries what that account wrote, our ids among it if it likes.
        """
        if event.livemode != self.livemode and not self._wrong_mode_told:
            self._wrong_mode_told = True
            log.error(
                "Stripe's events are of %s mode and STRIPE_SECRET_KEY is a %s key: "
                "STRIPE_WEBHOOK_SECRET is the other mode's, and no payment lands by it",
                *(("live", "test") if event.livemode else ("test", "live")),
            )
        return event.livemode == self.livemode and event.account is None

    async def close(self) -> None:
        """Closes the connections to Stripe."""
        if self._stripe is not None:
            await self._stripe.close()


def known_by(checkout: Checkout) -> dict[str, str]:
    """By what we know a session or a payment again."""
    return {"chargly_checkout": checkout.id, "chargly_customer": checkout.customer_id}


def _connected(config: Config) -> "StripeApi | None":
    if not config.stripe_configured or config.stripe_secret_key is None:
        return None
    # The package is a fifth of a server's start, and most servers of a test or a prototype never speak to Stripe.
    from app.payments.stripe_api import StripeApi  # noqa: PLC0415

    return StripeApi(config, config.stripe_secret_key)
