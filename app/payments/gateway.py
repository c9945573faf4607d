"""Stripe, as far as we need it: sessions made and read, signed events taken."""

import time
from typing import TYPE_CHECKING

from app.config import Config
from app.errors import StripeNotConfigured
from app.payments.messages import Session, StripeEvent, check_signature, parse_event
from app.store.checkouts import Checkout

if TYPE_CHECKING:
    from app.payments.stripe_api import StripeApi


class Gateway:
    """What passes between the ledger and Stripe. Without a key it asks nothing."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stripe = _connected(config)

    @property
    def livemode(self) -> bool:
        """Whether the key moves real money."""
        key = self._config.stripe_secret_key or ""
        return key.startswith(("sk_live_", "rk_live_"))

    async def create_session(self, checkout: Checkout, success_url: str, cancel_url: str) -> Session:
        """Asks Stripe for a page where the checkout is paid.

        Raises:
            StripeNotConfigured: this server has no Stripe key.
            StripeUnavailable: Stripe failed, refused or timed out.

        """
        ours = {"chargly_checkout": checkout.id, "chargly_customer": checkout.customer_id}
        return await self._api().create_session(
            {
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
                "payment_intent_data": {"metadata": ours},
                "success_url": success_url,
                "cancel_url": cancel_url,
                "expires_at": checkout.expires_at // 1000,
            },
            f"{checkout.id}-{checkout.expires_at // 1000}",
        )

    async def read_session(self, session_id: str) -> Session:
        """A session as Stripe has it now. Fails as `create_session` does."""
        return await self._api().read_session(session_id)

    def _api(self) -> "StripeApi":
        if self._stripe is None:
            raise StripeNotConfigured
        return self._stripe

    def read_event(self, payload: bytes, signature: str | None) -> StripeEvent:
        """A webhook's event, after its signature has been checked.

        Raises:
            StripeNotConfigured: there is no secret to check it with.
            InvalidRequest: unsigned, forged, more than five minutes old or early, or no event.

        """
        secret = self._config.stripe_webhook_secret
        if not secret:
            raise StripeNotConfigured
        check_signature(
            payload, signature, secret, int(time.time()), self._config.limits.stripe_webhook_tolerance_seconds
        )
        return parse_event(payload)

    async def close(self) -> None:
        """Closes the connections to Stripe."""
        if self._stripe is not None:
            await self._stripe.close()


def _connected(config: Config) -> "StripeApi | None":
    if not config.stripe_configured or config.stripe_secret_key is None:
        return None
    # The package is a fifth of a server's start, and most servers of a test or a prototype never speak to Stripe.
    from app.payments.stripe_api import StripeApi  # noqa: PLC0415

    return StripeApi(config, config.stripe_secret_key)
