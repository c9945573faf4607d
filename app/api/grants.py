"""Credits given, taken back and corrected by hand."""

from typing import Final

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Credits, Priority, Reason, SignedCredits, Strict
from app.api.http import REPLAYED, Answer, Call, Route
from app.errors import IdempotencyConflict, InsufficientCredits, InvalidRequest, NotFound
from app.rules.operations import AddGrant, Adjust, VoidGrant, derived_id
from app.rules.periods import Per
from app.rules.times import rfc3339
from app.rules.wallet import PRIORITY_DEFAULT, Category, Entry, Grant, Rollover
from app.store.ids import new_id


class GrantAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Credits that came in together, and what remains of them. `next_at` is when a recurring one comes again."""

    id: str
    category: str
    status: str
    credits: int
    remaining: int
    priority: int
    effective_at: str
    expires_at: str | None
    every: str | None
    rollover: str | None
    next_at: str | None
    source: str


class GrantRequest(Strict, frozen=True, kw_only=True):
    """Credits to give: now or from a time on, for ever or until one, once or again and again.

    `usd_value` is the money that paid ones stand for, each time.
    """

    credits: Credits
    category: Category
    reason: Reason | None = None
    priority: Priority = PRIORITY_DEFAULT
    effective_at: str | None = None
    expires_at: str | None = None
    every: Per | None = None
    rollover: Rollover | None = None
    usd_value: str | None = None
    idempotency_key: str | None = None


class VoidRequest(Strict, frozen=True, kw_only=True):
    """Why credits are taken back."""

    reason: Reason | None = None
    idempotency_key: str | None = None


class AdjustmentRequest(Strict, frozen=True, kw_only=True):
    """A correction, with why."""

    credits: SignedCredits
    reason: Reason
    idempotency_key: str | None = None


class AdjustmentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The correction as the ledger has it."""

    id: str
    customer_id: str
    kind: str
    description: str
    credits: int
    reason: str
    balance: int
    held: int
    available: int
    version: int
    created_at: str


async def add_grant(call: Call) -> Answer:
    """Gives credits."""
    body: GrantRequest = call.body
    customer_id = fields.path_customer(call)
    if body.rollover is not None and body.every is None:
        raise InvalidRequest("rollover: it goes with every, for a grant that comes again.", field="rollover")
    if body.usd_value is not None and body.category != "paid":
        raise InvalidRequest("usd_value: promotional credits earn nothing.", field="usd_value")
    key, request_hash = call.idempotency()
    outcome = await call.services.writer.submit(
        AddGrant(
            customer_id=customer_id,
            id=new_id("grant", customer_id),
            actor=call.actor,
            key=key,
            request_hash=request_hash,
            credits=body.credits,
            category=body.category,
            priority=body.priority,
            reason=fields.printable(body.reason, "reason"),
            effective_at=fields.time_of(body.effective_at, "effective_at"),
            expires_at=fields.time_of(body.expires_at, "expires_at"),
            every=body.every,
            rollover=body.rollover,
            usd_nanos=fields.usd_nanos(body.usd_value, "usd_value"),
        )
    )
    return Answer(_as_entered(outcome.entry), 201, REPLAYED if outcome.replayed else ())


async def void_grant(call: Call) -> Answer:
    """Takes back what is left of a grant; asked again, it answers as it did first."""
    body: VoidRequest = call.body
    customer_id = fields.path_customer(call)
    grant_id = call.params["grant_id"]
    if not grant_id.startswith("grant_") or not grant_id.isprintable():
        raise NotFound("There is no such grant in this wallet.")
    key, request_hash = call.idempotency()
    outcome = await call.services.writer.submit(
        VoidGrant(
            customer_id=customer_id,
            id=derived_id("void", grant_id),
            actor=call.actor,
            key=key,
            request_hash=request_hash,
            grant_id=grant_id,
            reason=fields.printable(body.reason, "reason"),
        )
    )
    return Answer(_as_entered(outcome.entry), 200, REPLAYED if outcome.replayed else ())


def _as_entered(entry: Entry | None) -> GrantAnswer:
    """The grant as an entry of it tells it, so that a replay is the first answer again."""
    assert entry is not None
    return grant_answer(msgspec.convert((entry.detail or {})["grant"], Grant))


async def adjust(call: Call) -> Answer:
    """Corrects a balance."""
    body: AdjustmentRequest = call.body
    customer_id = fields.path_customer(call)
    if body.credits == 0:
        raise InvalidRequest("credits: an adjustment moves at least one credit, up or down.", field="credits")
    key, request_hash = call.idempotency()
    outcome = await call.services.writer.submit(
        Adjust(
            customer_id=customer_id,
            id=new_id("adj", customer_id),
            actor=call.actor,
            key=key,
            request_hash=request_hash,
            credits=body.credits,
            reason=fields.printable(body.reason, "reason") or "",
        )
    )
    entry = outcome.entry
    assert entry is not None
    answer = AdjustmentAnswer(
        id=entry.id,
        customer_id=entry.customer_id,
        kind=entry.kind,
        description=entry.description,
        credits=entry.credits,
        reason=entry.reason or "",
        balance=entry.balance,
        held=entry.held,
        available=entry.available,
        version=entry.version,
        created_at=rfc3339(entry.created_at),
    )
    return Answer(answer, 201, REPLAYED if outcome.replayed else ())


def grant_answer(grant: Grant) -> GrantAnswer:
    """A grant as the contract shows it."""
    return GrantAnswer(
        id=grant.id,
        category=grant.category,
        status=grant.state,
        credits=grant.credits,
        remaining=grant.remaining,
        priority=grant.priority,
        effective_at=rfc3339(grant.effective_at),
        expires_at=None if grant.expires_at is None else rfc3339(grant.expires_at),
        every=grant.every,
        rollover=grant.rollover,
        next_at=None if grant.next_at is None else rfc3339(grant.next_at),
        source=grant.source,
    )


_ADMIN: Final = Access("admin")

ROUTES = (
    Route(
        method="POST",
        path="/v1/wallets/{customer_id}/grants",
        access=_ADMIN,
        handler=add_grant,
        summary="Give credits",
        request=GrantRequest,
        answers={201: GrantAnswer},
        errors=(IdempotencyConflict,),
    ),
    Route(
        method="POST",
        path="/v1/wallets/{customer_id}/grants/{grant_id}/void",
        access=_ADMIN,
        handler=void_grant,
        summary="Take a grant back",
        request=VoidRequest,
        optional_body=True,
        answers={200: GrantAnswer},
        errors=(NotFound, IdempotencyConflict),
    ),
    Route(
        method="POST",
        path="/v1/wallets/{customer_id}/adjustments",
        access=_ADMIN,
        handler=adjust,
        summary="Correct a balance",
        request=AdjustmentRequest,
        answers={201: AdjustmentAnswer},
        errors=(IdempotencyConflict, InsufficientCredits, NotFound),
    ),
)
