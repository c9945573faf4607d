"""Whether an event is Stripe's: its signature, its time and its shape."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from app.errors import InvalidRequest
from app.payments.messages import EventBody, StripeEvent

T = TypeVar("T")
_SIGNATURE_HEADER: Final = re.compile(r"[\x20-\x7e]{1,4096}\Z")
_DIGEST_HEX: Final = re.compile(r"[0-9a-f]{64}\Z")


def check_signature(
    payload: bytes, header: str | None, secrets: Sequence[str], now: int, tolerance_seconds: int
) -> None:
    """Checks a `Stripe-Signature` header: `t=<seconds>,v1=<hex>[,v1=…]`, an HMAC-SHA256 over `<t>.<payload>`.

    Ours and not the package's: that one takes a time in the future, and fails with TypeError on a header that is not
    ASCII.

    Args:
        payload: the body as it came.
        header: as it came, None where there is none.
        secrets: any of which may have signed it: while one is being replaced there are two.
        now: the clock, in seconds since 1970.
        tolerance_seconds: how far its time may be away from that, either way.

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
    signed = times[0].encode() + b"." + payload
    expected = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    if not any(hmac.compare_digest(one, digest) for one in expected for digest in digests):
        raise _bad_signature("does not match the body")
    if abs(now - int(times[0])) > tolerance_seconds:
        raise _bad_signature(f"is more than {tolerance_seconds // 60} minutes away from this server's clock")


def _bad_signature(what: str) -> InvalidRequest:
    return InvalidRequest(f"The Stripe-Signature header {what}.", field="Stripe-Signature")


def parse_object(fields: dict[str, Any], kind: type[T]) -> T:
    """An event's object.

    Raises:
        InvalidRequest: it is not what the event's type says.

    """
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The object is not a Stripe {kind.__name__}: {error}.", field="data.object") from error


def parse_event(payload: bytes) -> StripeEvent:
    """An event's body.

    Raises:
        InvalidRequest: it is none.

    """
    try:
        return msgspec.json.decode(payload, type=EventBody).event()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("The body is not a Stripe event.", field="body") from error
