"""Operations on one wallet, each with as little said as a test needs."""

from typing import Any

from app.rules.ledger import apply
from app.rules.operations import (
    AddGrant,
    Adjust,
    Capture,
    ChangeSettings,
    Event,
    LimitMember,
    MakeHold,
    Operation,
    Release,
    Reverse,
    Settle,
    TopUp,
    VoidGrant,
)
from app.rules.pricing import Catalogue, Price
from app.rules.times import parse_rfc3339
from app.rules.wallet import Applied, Entry, Grant, State, Wallet

CATALOGUE = Catalogue(
    1,
    {
        "chat.reply": Price("chat.reply", 2, 8, "Chat reply", {"large": 20}),
        "ping": Price("ping", 1, 0, "Ping", {}),
    },
)
NEW = State(Wallet(customer_id="u"))
SECOND, HOUR, DAY = 1000, 3_600_000, 86_400_000


def at(text: str) -> int:
    """`2026-01-31`, or `2026-01-31T10:00`, in UTC."""
    return parse_rfc3339((text if "T" in text else f"{text}T00:00") + ":00Z")


NOW = at("2026-01-31T10:00")


def event(**fields: Any) -> Event:
    return Event(**{"customer_id": "u", "id": "evt_1", "event": "chat.reply", "metadata": {}} | fields)


def grant(credits: int, id: str = "grant_1", **fields: Any) -> AddGrant:
    return AddGrant(**{"customer_id": "u", "id": id, "credits": credits, "category": "promotional"} | fields)


def hold(credits: int | None = None, id: str = "hold_1", **fields: Any) -> MakeHold:
    return MakeHold(**{"customer_id": "u", "id": id, "credits": credits, "expires_in": 900, "metadata": {}} | fields)


def capture(hold_id: str = "hold_1", **fields: Any) -> Capture:
    id = hold_id.replace("hold", "evt")
    return Capture(**{"customer_id": "u", "id": id, "hold_id": hold_id, "metadata": {}} | fields)


def release(hold_id: str = "hold_1", **fields: Any) -> Release:
    return Release(customer_id="u", id=hold_id.replace("hold", "rel"), hold_id=hold_id, **fields)


def void(grant_id: str = "grant_1") -> VoidGrant:
    return VoidGrant(customer_id="u", id=grant_id.replace("grant", "void"), grant_id=grant_id)


def adjust(credits: int, id: str = "adj_1") -> Adjust:
    return Adjust(customer_id="u", id=id, credits=credits, reason="r")


def top_up(credits: int, id: str = "top_1") -> TopUp:
    return TopUp(
        customer_id="u",
        id=id,
        credits=credits,
        checkout_id="co_1",
        description="Starter",
        amount=1000,
        currency="usd",
    )


def reverse(entry: Entry | None) -> Reverse:
    assert entry is not None
    return Reverse(customer_id="u", id=entry.id.replace("evt", "rev"), event=entry)


def change(**changes: Any) -> ChangeSettings:
    return ChangeSettings(customer_id="u", id="set_1", changes=changes)


def limit(credits: int | None, per: Any = "day") -> ChangeSettings:
    return change(limit_credits=credits, limit_per=None if credits is None else per)


def limit_member(member: str, credits: int | None, per: Any = "day") -> LimitMember:
    return LimitMember(
        customer_id="u",
        id="set_2",
        member=member,
        limit_credits=credits,
        limit_per=None if credits is None else per,
    )


def settle() -> Settle:
    return Settle(customer_id="u", id="settle_1")


def done(
    state: State, operation: Operation, now: int = NOW, welcome: int = 0, catalogue: Catalogue = CATALOGUE
) -> Applied:
    return apply(state, operation, catalogue, now, welcome)


def after(*operations: Operation, state: State = NEW, now: int = NOW) -> State:
    """A wallet after operations at one moment."""
    for operation in operations:
        state = done(state, operation, now).state
    return state


def told(applied: Applied) -> list[tuple[str, int]]:
    """The entries' kinds and credits."""
    return [(entry.kind, entry.credits) for entry in applied.entries]


def grant_of(state: State, id: str = "grant_1") -> Grant:
    """A grant that the state has, used up or not."""
    return next(one for one in (*state.grants, *state.others.values()) if one.id == id)


def left(state: State) -> dict[str, int]:
    """What remains of the grants that may be spent, in burn-down order."""
    return {one.id: one.remaining for one in state.grants}
