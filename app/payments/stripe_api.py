"""The `stripe` package behind our own names. Every call has an end."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Final, TypeVar

import msgspec
import stripe

from app.config import Config
from app.errors import StripeUnavailable
from app.payments.messages import Dispute, EventBody, Intent, Invoice, Price, Refund, Session, StripeEvent
from app.payments.refusals import CardDeclined, StripeRefused

log = logging.getLogger("chargly.payments")

T = TypeVar("T")
_LATER: Final = (409, 429)
"""The same request is under way, or there are too many: it is asked again."""


class StripeApi:
    """Stripe, as far as we need it. Only the base address tells a sandbox from it.

    Each call raises `StripeUnavailable` where Stripe failed, timed out or does not answer as it should, and
    `StripeRefused` where it refuses.
    """

    def __init__(self, config: Config, secret_key: str) -> None:
        limits = config.limits
        # The client's own timeout is for each read: a peer that drips must end too.
        self._seconds_max = limits.stripe_timeout_seconds * (limits.stripe_retries_max + 1)
        self._page = limits.stripe_rows_at_once
        self._pages_max = limits.stripe_pages_max
        self._http = stripe.HTTPXClient(timeout=limits.stripe_timeout_seconds)
        client = stripe.StripeClient(
            secret_key,
            base_addresses={"api": config.stripe_api_base},
            http_client=self._http,
            max_network_retries=limits.stripe_retries_max,
        )
        self._v1 = client.v1

    async def create_session(self, fields: Any, idempotency_key: str) -> Session:
        """Makes a session of Stripe's own fields."""
        sessions = self._v1.checkout.sessions
        return await self._told(sessions.create_async(fields, {"idempotency_key": idempotency_key}), Session)

    async def read_session(self, session_id: str) -> Session:
        """A session as Stripe has it now."""
        return await self._told(self._v1.checkout.sessions.retrieve_async(session_id), Session)

    async def session_of_payment(self, intent_id: str) -> Session | None:
        """The session in which a payment was made."""
        found = self._listed(self._v1.checkout.sessions, {"payment_intent": intent_id}, Session, pages=1)
        return next(iter([one async for one in found]), None)

    async def create_intent(self, fields: Any, idempotency_key: str) -> Intent:
        """Makes a payment of Stripe's own fields.

        Raises:
            CardDeclined: it is not paid.

        """
        intents = self._v1.payment_intents
        return await self._told(intents.create_async(fields, {"idempotency_key": idempotency_key}), Intent)

    async def read_intent(self, intent_id: str) -> Intent:
        """A payment as Stripe has it now, with its charge."""
        intents = self._v1.payment_intents
        return await self._told(intents.retrieve_async(intent_id, {"expand": ["latest_charge"]}), Intent)

    async def cancel_intent(self, intent_id: str) -> Intent:
        """Ends a payment that is not paid, so that it never will be."""
        return await self._told(self._v1.payment_intents.cancel_async(intent_id), Intent)

    async def intents_of(self, stripe_customer: str) -> list[Intent]:
        """The payments of a customer, newest first, as many as are read at once."""
        listed = self._listed(self._v1.payment_intents, {"customer": stripe_customer}, Intent, pages=1)
        return [one async for one in listed]

    async def create_refund(self, fields: Any, idempotency_key: str) -> Refund:
        """Gives money back."""
        refunds = self._v1.refunds
        return await self._told(refunds.create_async(fields, {"idempotency_key": idempotency_key}), Refund)

    async def refunds_of(self, intent_id: str) -> list[Refund]:
        """All refunds of a payment."""
        return [one async for one in self._listed(self._v1.refunds, {"payment_intent": intent_id}, Refund)]

    async def disputes_of(self, intent_id: str) -> list[Dispute]:
        """All disputes of a payment."""
        return [one async for one in self._listed(self._v1.disputes, {"payment_intent": intent_id}, Dispute)]

    async def payment_of_charge(self, charge_id: str) -> str | None:
        """The payment that a charge belongs to."""
        charge = await self._plain(self._v1.charges.retrieve_async(charge_id))
        intent = charge.get("payment_intent")
        return intent if isinstance(intent, str) else None

    async def read_invoice(self, invoice_id: str) -> Invoice:
        """An invoice as Stripe has it now, with what paid it."""
        invoices = self._v1.invoices
        return await self._told(invoices.retrieve_async(invoice_id, {"expand": ["payments"]}), Invoice)

    async def invoice_of_payment(self, intent_id: str) -> str | None:
        """The invoice that a payment paid."""
        wanted: Any = {
            "payment": {"type": "payment_intent", "payment_intent": intent_id},
            "status": "paid",
            "limit": 1,
        }
        answer = await self._plain(self._v1.invoice_payments.list_async(wanted))
        found = [one.get("invoice") for one in answer.get("data", ())]
        return found[0] if found and isinstance(found[0], str) else None

    async def read_price(self, price_id: str) -> Price:
        """A price as Stripe has it now."""
        return await self._told(self._v1.prices.retrieve_async(price_id), Price)

    async def events(self, types: Sequence[str], since: int) -> AsyncIterator[StripeEvent]:
        """Events of some types since a time (seconds since 1970), newest first, as many as may be read."""
        fields = {"types": list(types), "created": {"gte": since}}
        async for one in self._listed(self._v1.events, fields, EventBody):
            yield one.event()

    async def _listed(
        self, service: Any, fields: dict[str, Any], kind: type[T], *, pages: int | None = None
    ) -> AsyncIterator[T]:
        after: dict[str, str] = {}
        for _ in range(pages or self._pages_max):
            answer = await self._plain(service.list_async({**fields, **after, "limit": self._page}))
            rows = answer.get("data")
            if not isinstance(rows, list):
                raise StripeUnavailable
            for row in rows:
                yield _converted(row, kind)
            if not answer.get("has_more") or not rows:
                return
            after = {"starting_after": rows[-1]["id"]}
        if pages is None:
            log.error("Stripe has more of %s than %d pages, for %s", kind.__name__, self._pages_max, fields)

    async def _told(self, call: Awaitable[Any], kind: type[T]) -> T:
        return _converted(await self._plain(call), kind)

    async def _plain(self, call: Awaitable[Any]) -> dict[str, Any]:
        """What Stripe answers, as plain JSON."""
        try:
            async with asyncio.timeout(self._seconds_max):
                answer = await call
            plain: dict[str, Any] = answer.to_dict()
        except stripe.CardError as error:
            raise _declined(error) from error
        except (stripe.InvalidRequestError, stripe.IdempotencyError) as error:
            log.warning("Stripe refused: %s, %s (%s)", error.code, error.user_message, error.request_id)
            if error.http_status in _LATER:
                raise StripeUnavailable from error
            raise StripeRefused(error.code or "invalid_request_error", getattr(error, "param", None)) from error
        except stripe.StripeError as error:
            log.warning("Stripe failed: %s (%s)", type(error).__name__, error.request_id)
            raise StripeUnavailable from error
        except (TimeoutError, AttributeError, TypeError, ValueError) as error:
            log.warning("Stripe did not answer as it should: %r", error)
            raise StripeUnavailable from error
        return plain

    async def close(self) -> None:
        """Closes the connections to Stripe."""
        await self._http.close_async()  # type: ignore[no-untyped-call]


def _converted(plain: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        log.warning("Stripe did not answer with a %s: %s", kind.__name__, error)
        raise StripeUnavailable from error


def _declined(error: stripe.CardError) -> CardDeclined:
    body = error.json_body if isinstance(error.json_body, dict) else {}
    told = body.get("error")
    told = told if isinstance(told, dict) else {}
    intent = told.get("payment_intent")
    return CardDeclined(
        str(told.get("decline_code") or error.code or "card_declined"),
        intent.get("id") if isinstance(intent, dict) else None,
    )
