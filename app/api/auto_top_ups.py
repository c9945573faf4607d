"""Automatic top-ups as a wallet's settings, and as it shows how they go."""

from typing import Annotated, Literal

import msgspec
from msgspec.structs import replace

from app.api.fields import Name, Strict, StripeId
from app.api.http import Call
from app.config import BALANCE_MAX, MONTHLY_LIMIT_MAX
from app.errors import InvalidRequest, NotFound
from app.rules.auto_top_up import MONTHLY_LIMIT, charged_this_month, fits_month
from app.rules.times import rfc3339
from app.rules.wallet import AutoTopUp
from app.store import reads, stripe_customers
from app.store.ids import now_ms


class AutoTopUpRequest(Strict, frozen=True, kw_only=True):
    """When a wallet fills itself: a balance below `threshold` charges a card for a pack.

    `monthly_limit` bounds a calendar month (UTC), in minor units of the pack's currency. Without `stripe_customer` and
    `payment_method` it is the card that the last checkout with `save_card` left.
    """

    threshold: Annotated[int, msgspec.Meta(ge=1, le=BALANCE_MAX)]
    pack: Name
    monthly_limit: Annotated[int, msgspec.Meta(ge=1, le=MONTHLY_LIMIT_MAX)]
    stripe_customer: StripeId | None = None
    payment_method: StripeId | None = None


class AutoTopUpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The settings, and how it goes.

    `status`: `active`; `charging` while a payment is under way; `waiting` after a failure, or for the next month,
    until `retry_at`; `stopped` after too many failures, until the settings or a new card start it again. `reason` is
    the code of what failed last.
    """

    threshold: int
    pack: str
    monthly_limit: int
    stripe_customer: str | None
    payment_method: str | None
    status: Literal["active", "charging", "waiting", "stopped"]
    reason: str | None
    failures: int
    retry_at: str | None
    charged_this_month: int


async def checked_settings(call: Call, customer_id: str, wanted: AutoTopUpRequest) -> AutoTopUp:
    """Settings as the ledger keeps them; refuses those by which no card could be charged.

    Raises:
        InvalidRequest, NotFound: by the field.

    """
    field = "auto_top_up"
    if (wanted.stripe_customer is None) != (wanted.payment_method is None):
        raise InvalidRequest(
            f"{field}: stripe_customer and payment_method go together.", field=f"{field}.payment_method"
        )
    pack = await call.services.catalogue.pack(wanted.pack)
    if pack is None:
        raise NotFound(f"There is no pack {wanted.pack!r}; GET /v1/packs lists them.", field=f"{field}.pack")
    if not fits_month(pack, wanted.monthly_limit):
        raise InvalidRequest(
            f"{field}.monthly_limit: the pack alone costs {pack.amount}.", field=f"{field}.monthly_limit"
        )
    if wanted.payment_method is None:
        saved = await stripe_customers.find(call.services.db, customer_id)
        if saved is None and await reads.wallet(call.services.db, customer_id) is None:
            raise NotFound("There is no wallet for this customer yet.", customer_id=customer_id)
        if saved is None or saved.payment_method is None:
            raise InvalidRequest(
                f"{field}.payment_method: no card is saved. Make a checkout with save_card first, or name a "
                "stripe_customer and a payment_method.",
                field=f"{field}.payment_method",
            )
    return AutoTopUp(
        threshold=wanted.threshold,
        pack=wanted.pack,
        monthly_limit=wanted.monthly_limit,
        stripe_customer=wanted.stripe_customer,
        payment_method=wanted.payment_method,
        currency=pack.currency,
    )


def for_browsers(answer: AutoTopUpAnswer) -> AutoTopUpAnswer:
    """As a browser may see it: it learns no id of Stripe's."""
    return replace(answer, stripe_customer=None, payment_method=None)


def auto_top_up_answer(auto: AutoTopUp | None) -> AutoTopUpAnswer | None:
    """How a wallet fills itself, as the contract shows it."""
    if auto is None or not auto.enabled:
        return None
    now = now_ms()
    waits = auto.waits_until is not None and auto.waits_until > now
    return AutoTopUpAnswer(
        threshold=auto.threshold,
        pack=auto.pack,
        monthly_limit=auto.monthly_limit,
        stripe_customer=auto.stripe_customer,
        payment_method=auto.payment_method,
        status="stopped" if auto.stopped else "charging" if auto.attempt else "waiting" if waits else "active",
        # A month's limit that is over is no reason any more; a failure is, until a payment lands.
        reason=None if auto.reason == MONTHLY_LIMIT and not waits else auto.reason,
        failures=auto.failures,
        retry_at=rfc3339(auto.waits_until) if waits and auto.waits_until is not None else None,
        charged_this_month=charged_this_month(auto, now, auto.charged_in),
    )
