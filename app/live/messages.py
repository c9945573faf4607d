"""What a browser is sent: always the whole state, so that a lost or doubled message cannot make a page wrong."""

from typing import Annotated, Any, Literal

import msgspec

from app.rules.wallet import Entry


class PublicEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as its customer may read it: no cost, metadata, reason or key name."""

    id: str
    kind: str
    description: str
    credits: int
    balance: int
    held: int
    available: int
    version: int
    created_at: str
    event: str | None = None
    model: str | None = None
    member: str | None = None
    quantity: int | None = None


class WalletMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="wallet"):
    """A wallet's whole state, and the entries that moved credits since the message before."""

    epoch: str
    customer_id: str
    balance: int
    held: int
    available: int
    version: int
    low: bool
    entries: list[PublicEntry]
    gap: bool
    prices: int
    at: str


class Heartbeat(msgspec.Struct, frozen=True, tag_field="type", tag="heartbeat"):
    """Sent after a silence, so that a dead connection is noticed."""

    prices: int
    at: str


class Subscribe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client sends: to begin, to resume from a version, to renew its token, to add a wallet."""

    type: Literal["subscribe"]
    token: str
    epoch: str | None = None
    since: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None


encode: Any = msgspec.json.Encoder().encode
"""A message as the bytes of one text frame."""
decode_subscribe: Any = msgspec.json.Decoder(Subscribe).decode
"""A client's message.

Raises:
    msgspec.MsgspecError: it is no subscribe message.
"""


def text_frame(message: msgspec.Struct) -> dict[str, str]:
    """A message as ASGI sends it; one for all sockets, which only read it."""
    return {"type": "websocket.send", "text": encode(message).decode()}


def public_entry(entry: Entry, created_at: str) -> PublicEntry:
    """An entry without what is the operator's alone; `created_at` is its time in RFC 3339."""
    return PublicEntry(
        id=entry.id,
        kind=entry.kind,
        description=entry.description,
        credits=entry.credits,
        balance=entry.balance,
        held=entry.held,
        available=entry.available,
        version=entry.version,
        created_at=created_at,
        event=entry.event,
        model=entry.model,
        member=entry.member,
        quantity=entry.quantity,
    )
