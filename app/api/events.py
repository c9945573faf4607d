"""Metering: what an action costs, the deduction, and its reversal."""

from typing import Any

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Credits, Name, Quantity, Reason, Strict
from app.api.http import REPLAYED, Answer, Call, Headers, Route
from app.errors import (
    ChargeError,
    IdempotencyConflict,
    InsufficientCredits,
    NotFound,
    SpendLimitReached,
    UnknownEvent,
    WalletFrozen,
)
from app.rules import ledger
from app.rules.operations import Event, Operation, Reverse, derived_id
from app.rules.times import rfc3339
from app.rules.wallet import Entry, State, Wallet
from app.store import reads
from app.store.ids import new_id, now_ms
from app.store.settled import settled_state


class EventRequest(Strict, frozen=True, kw_only=True):
    """An action to charge for: its price is f(event, model) × quantity, unless `credits` gives the whole."""

    customer_id: str
    event: str
    quantity: Quantity = 1
    model: Name | None = None
    credits: Credits | None = None
    member: str | None = None
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
    hold_id: str | msgspec.UnsetType = msgspec.UNSET


class ReverseRequest(Strict, frozen=True, kw_only=True):
    """Why an action failed."""

    reason: Reason | None = None
    idempotency_key: str | None = None


class ReversalAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was given back, and the wallet after it."""

    id: str
    event_id: str
    customer_id: str
    event: str
    label: str
    member: str | None
    credits: int
    reason: str | None
    balance: int
    held: int
    available: int
    version: int
    created_at: str


class QuoteRequest(Strict, frozen=True, kw_only=True):
    """An action that somebody may take."""

    customer_id: str
    event: str
    quantity: Quantity = 1
    model: Name | None = None
    member: str | None = None


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
    key, hashed = call.idempotency()
    operation = event_operation(call, body, key, hashed)
    entry, headers = await spend(call, operation)
    return Answer(event_answer(entry), 201, headers)


async def spend(call: Call, operation: Operation) -> tuple[Entry, Headers]:
    """Submits what spends credits or sets them apart; gives its entry, and the headers of its answer.

    Raises:
        InsufficientCredits: naming the page where credits are bought.

    """
    try:
        outcome = await call.services.writer.submit(operation)
    except InsufficientCredits as refusal:
        raise with_top_up_url(refusal, call) from None
    assert outcome.entry is not None
    return outcome.entry, REPLAYED if outcome.replayed else ()


def event_operation(call: Call, body: EventRequest, key: str | None, hashed: str | None) -> Event:
    """What a request asks of the ledger.

    Raises:
        InvalidRequest: a field is not good, `field` names it.

    """
    customer_id = fields.customer(body.customer_id)
    return Event(
        customer_id=customer_id,
        id=new_id("evt", customer_id),
        actor=call.actor,
        key=key,
        request_hash=hashed,
        event=fields.event_name(body.event),
        quantity=body.quantity,
        model=fields.printable(body.model, "model"),
        credits=body.credits,
        member=fields.member(body.member),
        cost_nanos=fields.usd_nanos(body.cost_usd),
        metadata=fields.metadata(body.metadata, call.services.config.limits),
    )


def with_top_up_url(refusal: ChargeError, call: Call) -> ChargeError:
    """A refusal with the page where credits are bought, where one is configured."""
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
        hold_id=(entry.detail or {}).get("hold_id", msgspec.UNSET),
    )


async def read_event(call: Call) -> Answer:
    """An event by its id."""
    return Answer(event_answer(await _event(call)))


async def _event(call: Call) -> Entry:
    entry = await reads.entry(call.services.db, call.params["event_id"])
    if entry is None or entry.kind != "event":
        raise NotFound("There is no such event.")
    return entry


async def reverse_event(call: Call) -> Answer:
    """Gives an event's credits back; asked again, it answers as it did first."""
    body: ReverseRequest = call.body
    reason = fields.printable(body.reason, "reason")
    event = await _event(call)
    key, hashed = call.idempotency()
    outcome = await call.services.writer.submit(
        Reverse(
            customer_id=event.customer_id,
            id=derived_id("rev", event.id),
            actor=call.actor,
            key=key,
            request_hash=hashed,
            event=event,
            reason=reason,
        )
    )
    assert outcome.entry is not None
    return Answer(_reversal_answer(outcome.entry), 201, REPLAYED if outcome.replayed else ())


def _reversal_answer(entry: Entry) -> ReversalAnswer:
    return ReversalAnswer(
        id=entry.id,
        event_id=(entry.detail or {})["event_id"],
        customer_id=entry.customer_id,
        event=entry.event or "",
        label=entry.description,
        member=entry.member,
        credits=entry.credits,
        reason=entry.reason,
        balance=entry.balance,
        held=entry.held,
        available=entry.available,
        version=entry.version,
        created_at=rfc3339(entry.created_at),
    )


async def quote(call: Call) -> Answer:
    """What an action would cost; changes nothing."""
    body: QuoteRequest = call.body
    customer_id = fields.customer(body.customer_id)
    call.owns(customer_id)
    services = call.services
    event = Event(
        customer_id=customer_id,
        id=new_id("quote", customer_id),
        event=fields.event_name(body.event),
        model=fields.printable(body.model, "model"),
        quantity=body.quantity,
        member=fields.member(body.member),
        metadata={},
    )
    catalogue = await services.catalogue.fresh()
    found = await settled_state(services.db, services.writer, customer_id, member=event.member)
    state, now = found or (State(Wallet(customer_id=customer_id)), now_ms())
    offer = ledger.offer(state, event, catalogue.at(now), now, services.config.welcome_credits)
    return Answer(
        QuoteAnswer(
            credits=offer.credits,
            allowed=offer.refusal is None,
            reason=offer.refusal,
            balance=offer.balance,
            available=offer.available,
            covers=offer.covers,
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
        errors=(InsufficientCredits, SpendLimitReached, WalletFrozen, UnknownEvent, IdempotencyConflict),
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
        path="/v1/events/{event_id}/reverse",
        access=Access("meter"),
        handler=reverse_event,
        summary="Give an event's credits back",
        request=ReverseRequest,
        optional_body=True,
        answers={201: ReversalAnswer},
        errors=(NotFound, IdempotencyConflict),
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
