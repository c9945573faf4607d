"""What time brings to a wallet: holds run out, grants expire or become effective, recurring ones come again.

It is brought before any other operation, in the order of its times, by entries of their own.
"""

import heapq
from typing import Any

import msgspec
from msgspec.structs import replace

from app.config import BALANCE_MAX, SETTLE_STEPS_MAX
from app.rules.change import Change
from app.rules.operations import derived_id
from app.rules.periods import occurrence
from app.rules.wallet import Grant, Hold

# At one moment holds free their credits first, so that what expires then expires whole, and a period ends before the
# next one begins.
_HOLD, _EXPIRY, _START, _AGAIN = range(4)


def settle(change: Change) -> None:
    """Brings what is due by the change's time.

    Raises:
        ValueError: not all of the wallet's open holds are in its state; what is missing would never run out.

    """
    of_holds = _dues_of_holds(change)
    if len(of_holds) != change.open_holds:
        raise ValueError(f"{change.open_holds} holds are open and {len(of_holds)} are in the state")
    dues = [*of_holds, *_dues_of_grants(change)]
    heapq.heapify(dues)
    for _ in range(SETTLE_STEPS_MAX):
        if not dues or dues[0][0] > change.now:
            break
        at, what, id = heapq.heappop(dues)
        for due in _bring(change, at, what, id):
            heapq.heappush(dues, due)
    change.due_at = dues[0][0] if dues else None


Due = tuple[int, int, str]
"""When, what, and the id of the hold or grant."""


def _dues_of_holds(change: Change) -> list[Due]:
    return [(hold.expires_at, _HOLD, hold.id) for hold in change.holds.values() if hold.status == "open"]


def _dues_of_grants(change: Change) -> list[Due]:
    return [due for grant in (*change.grants, *change.others.values()) for due in _dues_of(grant)]


def _dues_of(grant: Grant) -> list[Due]:
    dues: list[Due] = []
    if grant.state == "pending":
        dues.append((grant.effective_at, _START, grant.id))
    elif grant.state == "active" and grant.remaining and grant.expires_at is not None:
        dues.append((grant.expires_at, _EXPIRY, grant.id))
    if grant.next_at is not None:
        dues.append((grant.next_at, _AGAIN, grant.id))
    return dues


def _bring(change: Change, at: int, what: int, id: str) -> list[Due]:
    """Does what is due, where it still is; gives what it made due."""
    if what == _HOLD:
        _run_out(change, change.holds[id])
        return []
    grant = change.grant(id)
    assert grant is not None
    if what == _EXPIRY:
        if grant.state == "active" and grant.remaining:
            _lapse(change, replace(grant, state="expired"))
        return []
    if what == _START:
        return _start(change, grant)
    return _come_again(change, grant, at)


def _run_out(change: Change, hold: Hold) -> None:
    closed = change.close_hold(hold, "expired")
    detail = {"hold": msgspec.structs.asdict(closed)}
    change.enter(
        "hold_expiry",
        f"Ran out: {hold.label}",
        0,
        **columns_of(hold),
        detail=detail,
        entry_id=_own_id(hold.id),
        by_time=True,
    )
    facts = {"hold_id": hold.id, "event": hold.event, "member": hold.member, "credits": hold.credits}
    change.tell("hold.expired", facts)
    take_lapsed(change)


def columns_of(hold: Hold) -> dict[str, Any]:
    """The columns of an entry that is about a hold."""
    return {"event": hold.event, "model": hold.model, "member": hold.member, "quantity": hold.quantity}


def _own_id(id: str) -> str:
    return derived_id("exp", id)


def _lapse(change: Change, grant: Grant) -> None:
    """Ends a grant: takes what leaves `available` at 0, and keeps the rest for the holds that are open."""
    change.put(grant)
    _take_lapsed(change, grant)


def take_lapsed(change: Change) -> None:
    """Once a hold is closed: takes what lapsed grants had kept for it, and leaves `available` at 0 at the least."""
    for grant in _lapsed(change):
        _take_lapsed(change, grant)


def take_needless(change: Change) -> None:
    """Takes what lapsed grants keep beyond all open holds; there is some where credits were lacking when those closed.

    Or it would count as available, and an event would run into debt for it.
    """
    lapsed = _lapsed(change)
    needless = sum(grant.remaining for grant in lapsed) - change.held
    for grant in lapsed:
        if needless > 0:
            needless -= _take_lapsed(change, grant, needless)


def _lapsed(change: Change) -> list[Grant]:
    found = [grant for grant in change.others.values() if grant.has_ended and grant.remaining]
    return sorted(found, key=lambda grant: grant.version)


def _take_lapsed(change: Change, grant: Grant, most: int | None = None) -> int:
    taken = min(grant.remaining, max(0, change.available), grant.remaining if most is None else most)
    if not taken:
        return 0
    change.put(replace(grant, remaining=grant.remaining - taken, lapsed=grant.lapsed + taken))
    change.balance -= taken
    change.enter(
        "expiry" if grant.state == "expired" else "void",
        "Credits expired" if grant.state == "expired" else "Credits withdrawn",
        -taken,
        draws=((grant.id, taken),),
        entry_id=f"{_own_id(grant.id)}_{change.version + 1}",
        by_time=True,
    )
    return taken


def _start(change: Change, grant: Grant) -> list[Due]:
    """A grant that waited enters the balance: as much of it as a wallet can hold."""
    credits = min(grant.credits, BALANCE_MAX - change.balance)
    started = replace(grant, state="active", version=change.version + 1, credits=credits, remaining=credits)
    started, draws = change.bring_in(started)
    change.enter("grant", label_of(grant), credits, draws=draws, entry_id=derived_id("start", grant.id), by_time=True)
    return [due for due in _dues_of(started) if due[1] == _EXPIRY]


def _come_again(change: Change, grant: Grant, at: int) -> list[Due]:
    """A recurring grant's next period. Periods that passed unseen are made up for where their credits would remain."""
    assert grant.every is not None
    assert grant.anchor_at is not None
    period = grant.period + 1
    if grant.rollover == "none":
        while occurrence(grant.anchor_at, grant.every, period + 1) <= change.now:
            period += 1
        at = occurrence(grant.anchor_at, grant.every, period)
    change.put(replace(grant, next_at=None))
    if grant.ends_at is not None and at >= grant.ends_at:
        return []
    credits = min(grant.credits, BALANCE_MAX - change.balance)
    first = grant.source if grant.period else grant.id
    following = occurrence(grant.anchor_at, grant.every, period + 1)
    made = replace(
        grant,
        id=f"{first}_{period}",
        version=change.version + 1,
        state="active",
        credits=credits,
        remaining=credits,
        debt_paid=0,
        lapsed=0,
        source=first,
        created_at=change.now,
        effective_at=at,
        period=period,
        **ends_of_period(grant, following),
    )
    made, draws = change.bring_in(made)
    change.enter("grant", label_of(grant), credits, draws=draws, entry_id=made.id, by_time=True)
    return _dues_of(made)


def ends_of_period(grant: Grant, following: int) -> dict[str, int | None]:
    """When a recurring grant's period ends and whether another follows, given when that would begin."""
    last = grant.ends_at is not None and following >= grant.ends_at
    expires_at = grant.ends_at if last or grant.rollover == "all" else following
    return {"expires_at": expires_at, "next_at": None if last else following}


def label_of(grant: Grant) -> str:
    """What a customer reads of a grant that came in."""
    return "Promotional credits" if grant.category == "promotional" else "Credits added"
