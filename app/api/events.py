"""Metering: what an action costs, and the deduction."""

from typing import Any

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Credits, Name, Quantity, Strict
from app.api.http import REPLAYED, Answer, Call, Route
from app.errors import (
    ChargeError,
    IdempotencyConflict,
    InsufficientCredits,
    NotFound,
    UnknownEvent,
    WalletFrozen,
)
from app.rules.ledger import Entry, Event
from app.rules.times import rfc3339
from app.store import reads
from app.store.ids import new_id


class EventRequest(Strict, frozen=True, kw_only=True):
    """An action to charge for: its price is f(event, model) × quantity, unless `credits` gives the whole."""

    customer_id: str
    event: str
    quantity: Quantity = 1
    model: Name | None = None
    credits: Credits | None = None
    member: Name | None = None
    cost_usd: str | None = None
    idempotency_key: str | None = None
    metadata: dict[str, Any] = {}


class EventAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was charged, and the wallet after it."""

    id: str
    customer_id: str
    event: str
    label: str
    model: str | None
    member: str | None
    quantity: int
    unit_credits: int | None
    credits: int
    price_version: int | None
    balance: int
    held: int
    available: int
    version: int
    created_at: str
    metadata: dict[str, Any]


class QuoteRequest(Strict, frozen=True, kw_only=True):
    """An action that somebody may take."""

    customer_id: str
    event: str
    quantity: Quantity = 1
    model: Name | None = None
    member: Name | None = None


class QuoteAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What it would cost, whether it would pass, and how many such actions the wallet covers (null: any number)."""

    credits: int
    allowed: bool
    reason: str | None
    balance: int
    available: int
    covers: int | None


async def create_event(call: Call) -> Answer:
    """Deducts an event."""
    body: EventRequest = call.body
    customer_id = fields.customer(body.customer_id)
    key, request_hash = call.idempotency()
    operation = Event(
        customer_id=customer_id,
        id=new_id("evt", customer_id),
        actor=call.actor,
        key=key,
        request_hash=request_hash,
        event=fields.event_name(body.event),
        quantity=body.quantity,
        model=fields.printable(body.model, "model"),
        credits=body.credits,
        member=fields.printable(body.member, "member"),
        cost_nanos=fields.usd_nanos(body.cost_usd),
        metadata=fields.metadata(body.metadata, call.services.config.limits),
    )
    try:
        outcome = await call.services.writer.submit(operation)
    except InsufficientCredits as refusal:
        raise _with_top_up_url(refusal, call) from None
    assert outcome.entry is not None
    return Answer(event_answer(outcome.entry), 201, REPLAYED if outcome.replayed else ())


def _with_top_up_url(refusal: ChargeError, call: Call) -> ChargeError:
    if (url := call.services.config.top_up_url) is not None:
        refusal.facts["top_up_url"] = url
    return refusal


def event_answer(entry: Entry) -> EventAnswer:
    """An event's answer, made from its row alone, so that a replay is the first answer again."""
    return EventAnswer(
        id=entry.id,
        customer_id=entry.customer_id,
        event=entry.event or "",
        label=entry.description,
        model=entry.model,
        member=entry.member,
        quantity=entry.quantity or 1,
        unit_credits=entry.unit_credits,
        credits=-entry.credits,
        price_version=entry.price_version,
        balance=entry.balance,
        held=entry.held,
        available=entry.available,
        version=entry.version,
        created_at=rfc3339(entry.created_at),
        metadata=entry.metadata or {},
    )


async def read_event(call: Call) -> Answer:
    """An event by its id."""
    entry = await reads.entry(call.services.db, call.params["event_id"])
    if entry is None or entry.kind != "event":
        raise NotFound("There is no such event.")
    return Answer(event_answer(entry))


async def quote(call: Call) -> Answer:
    """What an action would cost; changes nothing."""
    body: QuoteRequest = call.body
    customer_id = fields.customer(body.customer_id)
    call.owns(customer_id)
    catalogue = await call.services.catalogue.fresh()
    price = catalogue.quote(fields.event_name(body.event), fields.printable(body.model, "model"), body.quantity)
    wallet = await reads.wallet(call.services.db, customer_id)
    welcome = call.services.config.welcome_credits
    balance, available = (wallet.balance, wallet.available) if wallet else (welcome, welcome)
    refusal = None
    if wallet is not None and wallet.frozen:
        refusal = WalletFrozen.code
    elif price.credits > available:
        refusal = InsufficientCredits.code
    return Answer(
        QuoteAnswer(
            credits=price.credits,
            allowed=refusal is None,
            reason=refusal,
            balance=balance,
            available=available,
            covers=max(available, 0) // price.credits if price.credits else None,
        )
    )


ROUTES = (
    Route(
        method="POST",
        path="/v1/events",
        access=Access("meter"),
        handler=create_event,
        summary="Deduct an event",
        request=EventRequest,
        answers={201: EventAnswer},
        errors=(InsufficientCredits, WalletFrozen, UnknownEvent, IdempotencyConflict),
    ),
    Route(
        method="GET",
        path="/v1/events/{event_id}",
        access=Access("meter"),
        handler=read_event,
        summary="Read an event",
        answers={200: EventAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="POST",
        path="/v1/quote",
        access=Access("meter", "read"),
        handler=quote,
        summary="Ask what an action would cost",
        request=QuoteRequest,
        answers={200: QuoteAnswer},
        errors=(UnknownEvent,),
    ),
)
