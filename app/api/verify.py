"""The ledger's promises, checked on one wallet as it is kept."""

import asyncio
from typing import Any

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.http import Answer, Call, Route
from app.errors import NotFound, Unavailable
from app.store import reads
from app.store.verify import Audit


class MismatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A broken promise: what, and the two values that should be one; `version` is null where no one entry shows it."""

    version: int | None
    what: str
    expected: str
    found: str


class VerifyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the wallet's ledger keeps its promises, how many entries were read, and the first that does not."""

    customer_id: str
    ok: bool
    entries: int
    mismatch: MismatchAnswer | None


async def verify_wallet(call: Call) -> Answer:
    """Audits one wallet."""
    customer_id = fields.path_customer(call)
    if await reads.wallet(call.services.db, customer_id) is None:
        raise NotFound("There is no wallet for this customer yet.", customer_id=customer_id)
    audit = Audit(call.services.db, customer_id)
    try:
        async with asyncio.timeout(call.services.config.limits.audit_seconds_max):
            found = [one async for one in audit.mismatches()]
    except TimeoutError as error:
        raise Unavailable("This ledger is too long to audit in a request: run `chargly verify`.") from error
    return Answer(
        VerifyAnswer(
            customer_id=customer_id,
            ok=not found,
            entries=audit.progress.entries,
            mismatch=MismatchAnswer(
                version=found[0].version,
                what=found[0].what,
                expected=_text(found[0].expected),
                found=_text(found[0].found),
            )
            if found
            else None,
        )
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


ROUTES = (
    Route(
        method="GET",
        path="/v1/verify/{customer_id}",
        access=Access("admin"),
        handler=verify_wallet,
        summary="Audit a wallet",
        answers={200: VerifyAnswer},
        errors=(NotFound,),
    ),
)
