"""What follows from an attempt: it arrived, it is tried again later, or it is given up."""

import random
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from app.config import Limits
from app.store.deliveries import Delivery, Result
from app.webhooks.frames import Answer

_GROWTH: Final = 3
_JITTER: Final = 0.2
_GONE: Final = 410
_MAY_SAY_WHEN: Final = (429, 503)


def result_of(delivery: Delivery, answer: Answer, now: int, limits: Limits) -> Result:
    """What becomes of a delivery.

    It is tried for `delivery_tries_seconds_max` after it was written, `delivery_tries_min` times at least, and for the
    last time when that ends.

    Args:
        delivery: as it was before the attempt.
        answer: to the attempt.
        now: when it ended, in milliseconds since 1970.
        limits: when it is tried again.

    """
    attempts = delivery.attempts + 1
    last_at = delivery.created_at + round(limits.delivery_tries_seconds_max * 1000)
    gone = answer.status == _GONE
    given_up = gone or (now >= last_at and attempts >= limits.delivery_tries_min)
    next_at = now + round(_pause_seconds(attempts, answer, now, limits) * 1000)
    if now < last_at < next_at and attempts + 1 >= limits.delivery_tries_min:
        next_at = last_at
    return Result(
        id=delivery.id,
        endpoint_id=delivery.endpoint_id,
        customer_id=delivery.customer_id,
        position=delivery.position,
        status="delivered" if answer.is_success else "failed" if given_up else "pending",
        attempts=attempts,
        next_at=now if answer.is_success or given_up else next_at,
        at=now,
        answer_status=answer.status,
        error=None if answer.is_success else answer.error,
        gone=gone,
    )


def _pause_seconds(attempts: int, answer: Answer, now: int, limits: Limits) -> float:
    # The exponent is bounded, for a delivery may be sent again by hand any number of times.
    grown = limits.delivery_retry_seconds_min * _GROWTH ** min(attempts - 1, 30)
    around = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - so that not all come back at once
    ours: float = min(grown, limits.delivery_retry_seconds_max) * around
    return max(ours, _asked_for(answer, now, limits))


def _asked_for(answer: Answer, now: int, limits: Limits) -> float:
    """The seconds that an endpoint asks to be left alone for, 0 where it does not."""
    if answer.status not in _MAY_SAY_WHEN or answer.retry_after is None:
        return 0
    text = answer.retry_after.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        try:
            at = parsedate_to_datetime(text)
            seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now / 1000
        except (ValueError, OverflowError):
            return 0
    return min(max(seconds, 0), limits.delivery_retry_after_seconds_max)
