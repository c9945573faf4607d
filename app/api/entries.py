"""A wallet's ledger, newest first: for the customer, for the operator, for a spreadsheet."""

import logging
from collections.abc import AsyncGenerator
from typing import Any, Final, get_args

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.http import Answer, Call, Route
from app.api.spreadsheet import cell, csv_rows
from app.errors import ForbiddenScope, Internal, InvalidRequest, NotFound
from app.live.messages import PublicEntry, public_entry
from app.rules.times import rfc3339
from app.rules.wallet import Entry, EntryKind
from app.store import reads
from app.store.reads import EntryFilter
from app.store.settled import existing_wallet

log = logging.getLogger("chargly.api")

_KINDS: Final = get_args(EntryKind)
_ALL: Final = "all"


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """Credits that an entry took from a grant; below zero they were given back to it."""

    grant_id: str
    credits: int


class OperatorEntry(PublicEntry, frozen=True, kw_only=True):
    """An entry with what is the operator's alone."""

    unit_credits: int | None = None
    price_version: int | None = None
    cost_usd: str | None = None
    metadata: dict[str, Any] | None = None
    reason: str | None = None
    actor: str | None = None
    idempotency_key: str | None = None
    hold_id: str | None = None
    draws: list[Draw] | None = None


class EntriesAnswer(msgspec.Struct, frozen=True):
    """A page of the ledger: for a widget token, each entry without what is the operator's alone."""

    entries: list[PublicEntry]
    next_cursor: str | None


async def list_entries(call: Call) -> Answer:
    """A page of the ledger as JSON, or all that is asked for as CSV."""
    customer_id = fields.path_customer(call)
    await existing_wallet(call.services.db, call.services.writer, customer_id)
    wanted = _filter(call)
    if fields.wants_csv(call):
        return _csv(call, customer_id, wanted)
    found, before = await reads.entries(
        call.services.db, customer_id, wanted, limit=fields.limit(call), before=_before(call)
    )
    return Answer(EntriesAnswer([_shown(call, entry) for entry in found], fields.make_cursor(before)))


def _filter(call: Call) -> EntryFilter:
    kind = call.query.get("kind")
    if kind is not None and kind not in (*_KINDS, _ALL):
        raise InvalidRequest(f"kind: one of {', '.join(_KINDS)}, or {_ALL}.", field="kind")
    event = call.query.get("event")
    if event is not None:
        fields.event_name(event)
    return EntryFilter(
        kind=None if kind == _ALL else kind,
        quiet=kind == _ALL,
        event=event,
        since=fields.time_ms(call, "from"),
        until=fields.time_ms(call, "to"),
    )


def _before(call: Call) -> int | None:
    text = fields.cursor(call)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidRequest("cursor: take it from next_cursor as it is.", field="cursor")
    return int(text)


def _shown(call: Call, entry: Entry) -> PublicEntry:
    public = public_entry(entry, rfc3339(entry.created_at))
    if call.credential.customer_id is not None:
        return public
    return OperatorEntry(
        **msgspec.structs.asdict(public),
        unit_credits=entry.unit_credits,
        price_version=entry.price_version,
        cost_usd=fields.usd(entry.cost_nanos),
        metadata=entry.metadata,
        reason=entry.reason,
        actor=entry.actor,
        idempotency_key=entry.idempotency_key,
        hold_id=_hold_id(entry),
        draws=[Draw(grant_id=id, credits=credits) for id, credits in entry.draws] if entry.draws else None,
    )


def _hold_id(entry: Entry) -> str | None:
    detail = entry.detail or {}
    hold_id: str | None = detail.get("hold_id") or detail.get("hold", {}).get("id")
    return hold_id


def _csv(call: Call, customer_id: str, wanted: EntryFilter) -> Answer:
    """Every entry asked for, newest first, a page at a time as the reader takes them."""
    columns = (PublicEntry if call.credential.customer_id is not None else OperatorEntry).__struct_fields__
    before = _before(call)
    limits = call.services.config.limits

    async def pages() -> AsyncGenerator[bytes]:
        nonlocal before
        yield csv_rows([columns])
        for _ in range(0, limits.csv_rows_max, limits.csv_rows_at_once):
            found, before = await reads.entries(
                call.services.db, customer_id, wanted, limit=limits.csv_rows_at_once, before=before
            )
            yield csv_rows([cell(getattr(_shown(call, entry), name)) for name in columns] for entry in found)
            if before is None:
                return
        # The answer has begun, so all that can be said is an end without an end: no reader takes it for whole.
        log.error("a CSV of %s was cut at %d rows", customer_id, limits.csv_rows_max)
        raise Internal

    return Answer(
        pages(),
        headers=(
            (b"content-type", b"text/csv; charset=utf-8"),
            (b"content-disposition", b'attachment; filename="entries.csv"'),
        ),
    )


ROUTES = (
    Route(
        method="GET",
        path="/v1/wallets/{customer_id}/entries",
        access=Access("meter", "read"),
        handler=list_entries,
        summary="Read a wallet's ledger",
        query=("limit", "cursor", "kind", "event", "from", "to"),
        answers={200: EntriesAnswer},
        errors=(NotFound, ForbiddenScope),
    ),
)
