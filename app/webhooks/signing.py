"""Signatures as Standard Webhooks has them: HMAC-SHA256 over id, time and body."""

import base64
import secrets
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from app.store.webhooks import Endpoint

_SECRET_BYTES: Final = 32


def new_secret() -> str:
    """A secret such as `whsec_…`: 32 random bytes in base 64."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def signed_headers(endpoint: Endpoint, message_id: str, body: str, now_seconds: int) -> dict[str, str]:
    """The headers that say what a message is, when it was sent and that we sent it.

    Args:
        endpoint: whose secrets sign; the former one too while a rotation lasts.
        message_id: the same for every attempt.
        body: what is sent.
        now_seconds: when, in seconds since 1970.

    """
    of_now = [endpoint.secret]
    if endpoint.former_secret is not None and now_seconds * 1000 < (endpoint.former_until or 0):
        of_now.append(endpoint.former_secret)
    at = datetime.fromtimestamp(now_seconds, UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(now_seconds),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, at, body) for secret in of_now),
    }
