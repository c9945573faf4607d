"""The contract's fields: their types for decoding, and the checks that a type cannot say."""

import re
from typing import Annotated, Any, Final

import msgspec

from app.api.http import Call
from app.config import (
    AMOUNT_MAX,
    BALANCE_MAX,
    COST_NANOS_MAX,
    CREDITS_MAX,
    CUSTOMER_ID_CHARACTERS_MAX,
    HOLD_SECONDS_MAX,
    LIMITS,
    QUANTITY_MAX,
    Limits,
)
from app.errors import InvalidRequest
from app.rules.names import is_customer_id
from app.rules.periods import Per
from app.rules.pricing import EVENT_LENGTH_MAX, is_event_name
from app.rules.times import parse_rfc3339

Credits = Annotated[int, msgspec.Meta(ge=1, le=CREDITS_MAX)]
"""A positive amount of credits."""
UnitCredits = Annotated[int, msgspec.Meta(ge=0, le=CREDITS_MAX)]
"""A price of one unit, which may be free."""
SignedCredits = Annotated[int, msgspec.Meta(ge=-CREDITS_MAX, le=CREDITS_MAX)]
"""A correction, either way."""
Quantity = Annotated[int, msgspec.Meta(ge=1, le=QUANTITY_MAX)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
"""A text that people read: a label, a name, a model."""
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Priority = Annotated[int, msgspec.Meta(ge=0, le=255)]
"""Grants of a lower number are spent first."""
Threshold = Annotated[int, msgspec.Meta(ge=1, le=BALANCE_MAX)]
"""The balance below which a wallet is low."""
OverdraftLimit = Annotated[int, msgspec.Meta(ge=0, le=CREDITS_MAX)]
"""How many credits a balance may lie below zero."""
HoldSeconds = Annotated[int, msgspec.Meta(ge=1, le=HOLD_SECONDS_MAX)]
TokenSeconds = Annotated[int, msgspec.Meta(ge=1, le=LIMITS.token_seconds_max)]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{3}\Z")]
MinorUnits = Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)]
"""Money in a currency's smallest unit."""
Days = Annotated[int, msgspec.Meta(ge=1, le=3_650)]
StripeId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_]{3,255}\Z")]
"""An id of one of Stripe's objects."""
Email = Annotated[str, msgspec.Meta(pattern=r"^[^@\s]{1,64}@[^@\s]{1,250}\Z", max_length=300)]

_USD: Final = re.compile(r"(\d{1,7})(?:\.(\d{1,9}))?\Z", re.ASCII)
_CURSOR_CHARACTERS_MAX: Final = CUSTOMER_ID_CHARACTERS_MAX * 4 * 2
"""A customer's id as UTF-8 in hexadecimal."""
_encode: Final = msgspec.json.Encoder().encode


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A request's body: what it does not know it refuses, or a misspelt field would be lost.

    Defaults are left out of its canonical form, so that a field of a later release does not change an old key's hash.
    """


class SpendLimit(Strict, frozen=True, kw_only=True):
    """Credits that may be spent in each calendar day, week from Monday, or month, in UTC."""

    credits: Annotated[int, msgspec.Meta(ge=1, le=CREDITS_MAX)]
    per: Per


def customer(customer_id: str, field: str = "customer_id") -> str:
    """A customer's id, checked.

    Raises:
        InvalidRequest: it is not 1 to 255 printable characters without `/`, or is `.` or `..`.

    """
    if not is_customer_id(customer_id):
        raise InvalidRequest(
            f"{field}: 1 to {CUSTOMER_ID_CHARACTERS_MAX} printable characters without '/', and not '.' or '..'.",
            field=field,
        )
    return customer_id


def path_customer(call: Call) -> str:
    """The customer named in the path, whom the credential may see.

    Raises:
        InvalidRequest, ForbiddenScope: it is no id, or not this token's.

    """
    customer_id = customer(call.params["customer_id"])
    call.owns(customer_id)
    return customer_id


def event_name(event: str, field: str = "event", *, flat_rate: bool = False) -> str:
    """An event's name, checked.

    Raises:
        InvalidRequest: it is not lower-case words joined by dots.

    """
    if is_event_name(event) or (flat_rate and event == "*"):
        return event
    raise InvalidRequest(
        f"{field}: an event is named like 'chat.reply', in a-z, 0-9, '_' and '.', up to {EVENT_LENGTH_MAX} characters.",
        field=field,
    )


def member(name: str | None, field: str = "member") -> str | None:
    """A member's name, checked as a customer's id is: it stands in paths.

    Raises:
        InvalidRequest: it is not 1 to 255 printable characters without `/`, or is `.` or `..`.

    """
    return None if name is None else customer(name, field)


def printable(text: str | None, field: str) -> str | None:
    """A text that people read, checked.

    Raises:
        InvalidRequest: it holds control characters.

    """
    if text is not None and not text.isprintable():
        raise InvalidRequest(f"{field}: control characters are not taken.", field=field)
    return text


def metadata(value: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """An event's metadata, checked to be small; its depth was checked as it came.

    Raises:
        InvalidRequest: it is more than the limit as compact JSON.

    """
    if not value:
        return value
    try:
        size = len(_encode(value))
    except (msgspec.MsgspecError, OverflowError, UnicodeError) as error:
        raise InvalidRequest("metadata: it cannot be kept as JSON.", field="metadata") from error
    if size > limits.metadata_bytes_max:
        raise InvalidRequest(
            f"metadata: {size} bytes as JSON, and {limits.metadata_bytes_max} at most are kept.", field="metadata"
        )
    return value


def usd_nanos(text: str | None, field: str = "cost_usd") -> int | None:
    """An amount of US dollars, such as `"0.0042"`, in billionths.

    Raises:
        InvalidRequest: it is no such text, or over a million dollars.

    """
    return None if text is None else nanos_of(text, field)


def nanos_of(text: str, field: str) -> int:
    """The same of a text that is there."""
    match = _USD.match(text)
    nanos = int(match[1]) * 10**9 + int((match[2] or "").ljust(9, "0")) if match else -1
    if not 0 <= nanos <= COST_NANOS_MAX:
        raise InvalidRequest(
            f'{field}: dollars as text, such as "0.0042", with nine decimals at most and up to a million.', field=field
        )
    return nanos


def usd(nanos: int | None) -> str | None:
    """Billionths of a US dollar as text, without trailing zeros."""
    return None if nanos is None else dollars(nanos)


def dollars(nanos: int) -> str:
    """The same of an amount that is there; it may be below zero."""
    whole, rest = divmod(abs(nanos), 10**9)
    return ("-" if nanos < 0 else "") + f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


def wants_csv(call: Call) -> bool:
    """Whether a list is asked for as CSV."""
    return call.headers.get(b"accept", b"").startswith(b"text/csv")


def limit(call: Call) -> int:
    """How many rows a list answers with.

    Raises:
        InvalidRequest: it is no whole number within the limits.

    """
    limits = call.services.config.limits
    text = call.query.get("limit")
    if text is None:
        return limits.list_rows_default
    if not re.fullmatch(r"\d{1,4}", text, re.ASCII) or not 1 <= int(text) <= limits.list_rows_max:
        raise InvalidRequest(f"limit: a whole number from 1 to {limits.list_rows_max}.", field="limit")
    return int(text)


def time_ms(call: Call, name: str) -> int | None:
    """A time of the query, in milliseconds.

    Raises:
        InvalidRequest: it is none.

    """
    text = call.query.get(name)
    if text is None:
        return None
    try:
        return parse_rfc3339(text.replace(" ", "+"))  # an unescaped + of an offset
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{name}: a time such as 2026-01-31T12:00:00Z.", field=name) from error


def time_of(text: str | None, field: str) -> int | None:
    """A time of the body, in milliseconds.

    Raises:
        InvalidRequest: it is none.

    """
    if text is None:
        return None
    try:
        return parse_rfc3339(text)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{field}: a time such as 2026-01-31T12:00:00Z.", field=field) from error


def cursor(call: Call) -> str | None:
    """Where a list goes on, as `make_cursor` wrote it.

    Raises:
        InvalidRequest: it is none of ours.

    """
    text = call.query.get("cursor")
    if text is None:
        return None
    try:
        if len(text) > _CURSOR_CHARACTERS_MAX:
            raise ValueError
        return bytes.fromhex(text).decode()
    except ValueError as error:
        raise InvalidRequest("cursor: take it from next_cursor as it is.", field="cursor") from error


def make_cursor(position: str | int | None) -> str | None:
    """An opaque cursor for the next page."""
    return None if position is None else str(position).encode().hex()
