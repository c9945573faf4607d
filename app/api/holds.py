"""Holds: credits set apart for an action whose cost is not known yet, then captured or released."""

from typing import Any, Final, get_args

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.events import EventAnswer, event_answer, spend
from app.api.fields import Credits, HoldSeconds, Name, Quantity, Reason, Strict
from app.api.http import REPLAYED, Answer, Call, Route
from app.config import HOLD_SECONDS_DEFAULT
from app.errors import (
    HoldNotOpen,
    IdempotencyConflict,
    InsufficientCredits,
    InvalidRequest,
    NotFound,
    SpendLimitReached,
    TooManyHolds,
    UnknownEvent,
    WalletFrozen,
)
from app.rules.operations import Capture, MakeHold, Release, derived_id
from app.rules.times import rfc3339
from app.rules.wallet import Entry, Hold, HoldStatus, Wallet
from app.store import reads
from app.store.ids import new_id
from app.store.settled import existing_wallet

_STATUSES: Final = get_args(HoldStatus)


class HoldRequest(Strict, frozen=True, kw_only=True):
    """An action that begins: at its event's price, or for as many credits as it may cost."""

    customer_id: str
    event: str | None = None
    quantity: Quantity = 1
    model: Name | None = None
    credits: Credits | None = None
    member: str | None = None
    expires_in: HoldSeconds = HOLD_SECONDS_DEFAULT
    idempotency_key: str | None = None
    metadata: dict[str, Any] = {}


class CaptureRequest(Strict, frozen=True, kw_only=True):
    """What the action cost in the end: credits, or units of its price; all that was held where neither is given."""

    credits: Credits | None = None
    quantity: Quantity | None = None
    event: str | None = None
    cost_usd: str | None = None
    idempotency_key: str | None = None
    metadata: dict[str, Any] = {}


class ReleaseRequest(Strict, frozen=True, kw_only=True):
    """An action that did not happen."""

    reason: Reason | None = None
    idempotency_key: str | None = None


class HoldAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A hold, and the wallet with it."""

    id: str
    customer_id: str
    status: str
    event: str | None
    label: str
    model: str | None
    member: str | None
    quantity: int
    unit_credits: int | None
    price_version: int | None
    credits: int
    created_at: str
    expires_at: str
    closed_at: str | None
    metadata: dict[str, Any]
    balance: int
    held: int
    available: int
    version: int


class HoldSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A hold in a list."""

    id: str
    status: str
    event: str | None
    label: str
    model: str | None
    member: str | None
    quantity: int
    credits: int
    created_at: str
    expires_at: str
    closed_at: str | None


class HoldsAnswer(msgspec.Struct, frozen=True):
    """A page of a wallet's holds, newest first."""

    holds: list[HoldSummary]
    next_cursor: str | None


async def create_hold(call: Call) -> Answer:
    """Sets credits apart."""
    body: HoldRequest = call.body
    customer_id = fields.customer(body.customer_id)
    if body.event is None and body.credits is None:
        raise InvalidRequest("event: a hold is for an event, for so many credits, or for both.", field="event")
    key, request_hash = call.idempotency()
    operation = MakeHold(
        customer_id=customer_id,
        id=new_id("hold", customer_id),
        actor=call.actor,
        key=key,
        request_hash=request_hash,
        event=None if body.event is None else fields.event_name(body.event),
        quantity=body.quantity,
        model=fields.printable(body.model, "model"),
        credits=body.credits,
        member=fields.member(body.member),
        expires_in=body.expires_in,
        metadata=fields.metadata(body.metadata, call.services.config.limits),
    )
    entry, headers = await spend(call, operation)
    return Answer(_as_entered(entry), 201, headers)


async def capture_hold(call: Call) -> Answer:
    """Charges for a held action; the same call again answers as it did first."""
    body: CaptureRequest = call.body
    if body.credits is not None and body.quantity is not None:
        raise InvalidRequest("credits: a capture takes credits or a quantity, not both.", field="credits")
    key, _ = call.idempotency()
    event = None if body.event is None else fields.event_name(body.event)
    cost_nanos = fields.usd_nanos(body.cost_usd)
    metadata = fields.metadata(body.metadata, call.services.config.limits)
    customer_id, hold = await _find(call)
    operation = Capture(
        customer_id=customer_id,
        id=derived_id("evt", hold.id),
        actor=call.actor,
        key=key,
        request_hash=call.request_hash(),
        hold_id=hold.id,
        member=hold.member,
        event=event,
        quantity=body.quantity,
        credits=body.credits,
        cost_nanos=cost_nanos,
        metadata=metadata,
    )
    entry, headers = await spend(call, operation)
    return Answer(event_answer(entry), 201, headers)


async def release_hold(call: Call) -> Answer:
    """Frees what was set apart; the same call again answers as it did first."""
    body: ReleaseRequest = call.body
    reason = fields.printable(body.reason, "reason")
    key, request_hash = call.idempotency()
    customer_id, hold = await _find(call)
    outcome = await call.services.writer.submit(
        Release(
            customer_id=customer_id,
            id=derived_id("rel", hold.id),
            actor=call.actor,
            key=key,
            request_hash=request_hash,
            hold_id=hold.id,
            member=hold.member,
            reason=reason,
        )
    )
    assert outcome.entry is not None
    return Answer(_as_entered(outcome.entry), 200, REPLAYED if outcome.replayed else ())


async def read_hold(call: Call) -> Answer:
    """A hold as it stands now, with its wallet."""
    customer_id, _ = await _find(call)
    wallet = await existing_wallet(call.services.db, call.services.writer, customer_id)
    _, hold = await _find(call)
    return Answer(_hold_answer(customer_id, hold, wallet))


async def list_holds(call: Call) -> Answer:
    """A page of a wallet's holds."""
    customer_id = fields.path_customer(call)
    status = call.query.get("status")
    if status is not None and status not in _STATUSES:
        raise InvalidRequest(f"status: one of {', '.join(_STATUSES)}.", field="status")
    await existing_wallet(call.services.db, call.services.writer, customer_id)
    found, before = await reads.holds(
        call.services.db, customer_id, status=status, limit=fields.limit(call), before=fields.cursor(call)
    )
    return Answer(HoldsAnswer([_summary(hold) for hold in found], fields.make_cursor(before)))


async def _find(call: Call) -> tuple[str, Hold]:
    found = await reads.hold(call.services.db, call.params["hold_id"])
    if found is None:
        raise NotFound("There is no such hold.")
    return found


def _as_entered(entry: Entry) -> HoldAnswer:
    """The hold and its wallet as an entry of it tells them, so that a replay is the first answer again."""
    return _hold_answer(entry.customer_id, msgspec.convert((entry.detail or {})["hold"], Hold), entry)


def _hold_answer(customer_id: str, hold: Hold, wallet: Wallet | Entry) -> HoldAnswer:
    return HoldAnswer(
        **msgspec.structs.asdict(_summary(hold)),
        customer_id=customer_id,
        unit_credits=hold.unit_credits,
        price_version=hold.price_version,
        metadata=hold.metadata or {},
        balance=wallet.balance,
        held=wallet.held,
        available=wallet.available,
        version=wallet.version,
    )


def _summary(hold: Hold) -> HoldSummary:
    return HoldSummary(
        id=hold.id,
        status=hold.status,
        event=hold.event,
        label=hold.label,
        model=hold.model,
        member=hold.member,
        quantity=hold.quantity,
        credits=hold.credits,
        created_at=rfc3339(hold.created_at),
        expires_at=rfc3339(hold.expires_at),
        closed_at=None if hold.closed_at is None else rfc3339(hold.closed_at),
    )


_METER: Final = Access("meter")

ROUTES = (
    Route(
        method="POST",
        path="/v1/holds",
        access=_METER,
        handler=create_hold,
        summary="Set credits apart",
        request=HoldRequest,
        answers={201: HoldAnswer},
        errors=(
            InsufficientCredits,
            SpendLimitReached,
            WalletFrozen,
            UnknownEvent,
            IdempotencyConflict,
            TooManyHolds,
        ),
    ),
    Route(
        method="GET",
        path="/v1/holds/{hold_id}",
        access=_METER,
        handler=read_hold,
        summary="Read a hold",
        answers={200: HoldAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="POST",
        path="/v1/holds/{hold_id}/capture",
        access=_METER,
        handler=capture_hold,
        summary="Charge for a held action",
        request=CaptureRequest,
        optional_body=True,
        answers={201: EventAnswer},
        errors=(
            InsufficientCredits,
            SpendLimitReached,
            WalletFrozen,
            UnknownEvent,
            NotFound,
            IdempotencyConflict,
            HoldNotOpen,
        ),
    ),
    Route(
        method="POST",
        path="/v1/holds/{hold_id}/release",
        access=_METER,
        handler=release_hold,
        summary="Free what was set apart",
        request=ReleaseRequest,
        optional_body=True,
        answers={200: HoldAnswer},
        errors=(NotFound, IdempotencyConflict, HoldNotOpen),
    ),
    Route(
        method="GET",
        path="/v1/wallets/{customer_id}/holds",
        access=_METER,
        handler=list_holds,
        summary="List a wallet's holds",
        query=("status", "limit", "cursor"),
        answers={200: HoldsAnswer},
        errors=(NotFound,),
    ),
)
