"""The `stripe` package behind our own names. Every call has an end."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import stripe

from app.config import Config
from app.errors import InvalidRequest, StripeUnavailable
from app.payments.messages import Session, parse_session

log = logging.getLogger("chargly.payments")


class StripeApi:
    """Stripe's Checkout sessions. Only the base address tells a sandbox from Stripe."""

    def __init__(self, config: Config, secret_key: str) -> None:
        limits = config.limits
        # The client's own timeout is for each read: a peer that drips must end too.
        self._seconds_max = limits.stripe_timeout_seconds * (limits.stripe_retries_max + 1)
        self._http = stripe.HTTPXClient(timeout=limits.stripe_timeout_seconds)
        client = stripe.StripeClient(
            secret_key,
            base_addresses={"api": config.stripe_api_base},
            http_client=self._http,
            max_network_retries=limits.stripe_retries_max,
        )
        self._sessions = client.v1.checkout.sessions

    async def create_session(self, fields: Any, idempotency_key: str) -> Session:
        """Makes a session of Stripe's own fields.

        Raises:
            StripeUnavailable: Stripe failed, refused or timed out.

        """
        return await self._session(self._sessions.create_async(fields, {"idempotency_key": idempotency_key}))

    async def read_session(self, session_id: str) -> Session:
        """A session as Stripe has it now. Fails as `create_session` does."""
        return await self._session(self._sessions.retrieve_async(session_id))

    async def _session(self, call: Awaitable[Any]) -> Session:
        try:
            async with asyncio.timeout(self._seconds_max):
                answer = await call
            return parse_session(answer.to_dict())
        except stripe.StripeError as error:
            log.warning("Stripe refused or failed: %s (%s)", type(error).__name__, error.request_id)
            raise StripeUnavailable from error
        except (TimeoutError, InvalidRequest, AttributeError, TypeError, ValueError) as error:
            log.warning("Stripe did not answer with a session: %r", error)
            raise StripeUnavailable from error

    async def close(self) -> None:
        """Closes the connections to Stripe."""
        await self._http.close_async()  # type: ignore[no-untyped-call]
