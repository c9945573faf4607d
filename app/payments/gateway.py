"""Stripe, as far as we need it: sessions made and read, signatures checked. Every call has an end."""

import asyncio
import hashlib
import hmac
import logging
import re
import time
from typing import Any, Final

import msgspec
import stripe

from app.config import Config
from app.errors import InvalidRequest, StripeNotConfigured, StripeUnavailable
from app.store.checkouts import Checkout

log = logging.getLogger("chargly.payments")

_SIGNATURE_HEADER: Final = re.compile(r"[\x20-\x7e]{1,4096}\Z")
_DIGEST_HEX: Final = re.compile(r"[0-9a-f]{64}\Z")


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A Stripe Checkout session, as much of it as the ledger rests on. Amounts in minor units of `currency`."""

    id: str
    status: str | None = None
    payment_status: str | None = None
    amount_subtotal: int | None = None
    currency: str | None = None
    url: str | None = None
    expires_at: int | None = None
    metadata: dict[str, str] | None = None


class StripeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A signed event: its type, whether it is real money, and the object that it is about."""

    id: str
    type: str
    livemode: bool
    object: dict[str, Any]


class Gateway:
    """The `stripe` package behind our own names. Only the base address tells a sandbox from Stripe."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._http = stripe.HTTPXClient(timeout=config.limits.stripe_timeout_seconds)
        self._client = stripe.StripeClient(
            config.stripe_secret_key or "sk_test_unset",
            base_addresses={"api": config.stripe_api_base},
            http_client=self._http,
            max_network_retries=config.limits.stripe_retries_max,
        )

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
        return await self._call(
            self._client.v1.checkout.sessions.create_async,
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
            {"idempotency_key": f"{checkout.id}-{checkout.expires_at // 1000}"},
        )

    async def read_session(self, session_id: str) -> Session:
        """A session as Stripe has it now. Fails as `create_session` does."""
        return await self._call(self._client.v1.checkout.sessions.retrieve_async, session_id)

    async def _call(self, method: Any, *args: Any) -> Session:
        if not self._config.stripe_configured:
            raise StripeNotConfigured
        limits = self._config.limits
        try:
            # The client's own timeout is for each read: a peer that drips must end too.
            async with asyncio.timeout(limits.stripe_timeout_seconds * (limits.stripe_retries_max + 1)):
                answer = await method(*args)
            return parse_session(answer.to_dict())
        except stripe.StripeError as error:
            log.warning("Stripe refused or failed: %s (%s)", type(error).__name__, error.request_id)
            raise StripeUnavailable from error
        except (TimeoutError, InvalidRequest, AttributeError, TypeError, ValueError) as error:
            log.warning("Stripe did not answer with a session: %r", error)
            raise StripeUnavailable from error

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
        await self._http.close_async()  # type: ignore[no-untyped-call]


def check_signature(payload: bytes, header: str | None, secret: str, now: int, tolerance_seconds: int) -> None:
    """Checks a `Stripe-Signature` header: `t=<seconds>,v1=<hex>[,v1=…]`, an HMAC-SHA256 over `<t>.<payload>`.

    Ours and not the package's: that one takes a time in the future, and fails with TypeError on a header that is not
    ASCII.

    Raises:
        InvalidRequest: naming the header.

    """
    if header is None or not _SIGNATURE_HEADER.match(header):
        raise _bad_signature("is missing or malformed")
    pairs = [part.strip().partition("=")[::2] for part in header.split(",")]
    times = [value for name, value in pairs if name == "t"]
    digests = [value for name, value in pairs if name == "v1" and _DIGEST_HEX.match(value)]
    if len(times) != 1 or not re.fullmatch(r"[0-9]{1,12}", times[0]) or not digests:
        raise _bad_signature("is missing or malformed")
    expected = hmac.new(secret.encode(), times[0].encode() + b"." + payload, hashlib.sha256).hexdigest()
    if not any(hmac.compare_digest(expected, digest) for digest in digests):
        raise _bad_signature("does not match the body")
    if abs(now - int(times[0])) > tolerance_seconds:
        raise _bad_signature(f"is more than {tolerance_seconds // 60} minutes away from this server's clock")


def _bad_signature(what: str) -> InvalidRequest:
    return InvalidRequest(f"The Stripe-Signature header {what}.", field="Stripe-Signature")


class _Data(msgspec.Struct):
    object: dict[str, Any]


class _Payload(msgspec.Struct):
    id: str
    type: str
    data: _Data
    livemode: bool = False


def parse_event(payload: bytes) -> StripeEvent:
    """An event's body.

    Raises:
        InvalidRequest: it is none.

    """
    try:
        body = msgspec.json.decode(payload, type=_Payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("The body is not a Stripe event.", field="body") from error
    return StripeEvent(id=body.id, type=body.type, livemode=body.livemode, object=body.data.object)


def parse_session(fields: dict[str, Any]) -> Session:
    """A session from Stripe's fields.

    Raises:
        InvalidRequest: it is no session.

    """
    try:
        return msgspec.convert(fields, Session)
    except msgspec.ValidationError as error:
        raise InvalidRequest("The object is not a Stripe Checkout session.", field="data.object") from error
