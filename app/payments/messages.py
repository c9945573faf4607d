"""What Stripe says, as much of it as the ledger rests on: sessions, events, and the signature of an event."""

import hashlib
import hmac
import re
from typing import Any, Final

import msgspec

from app.errors import InvalidRequest

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
