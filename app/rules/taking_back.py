"""Money that goes back takes its credits with it: refunds, disputes, and what undoes them.

However a payment's money moved, the ledger is brought to one place: of each grant that the payment bought, as large a
part is taken as of the money, `min(bought, refunded + disputed in proportion)`. So signals that come twice, late,
added up or in another order end alike.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec.structs import replace

from app.errors import NotFound, VersionConflict
from app.rules import auto_top_up
from app.rules.change import Change, Draws
from app.rules.operations import AskRefund, TakeBack, bonus_id_of, grant_id_for, grant_id_of
from app.rules.pricing import Catalogue
from app.rules.wallet import EntryKind, Grant, Taken

_NOTHING: Final = Taken(credits=0, drawn=0, owed=0, version=0, refunded=0, disputed=0)
_WORDS: Final[dict[EntryKind, str]] = {"refund": "Refund", "dispute": "Dispute", "dispute_reversal": "Dispute won"}


def take_back(change: Change, op: TakeBack, _: Catalogue) -> None:
    """Brings what a payment bought to what its money says.

    Credits leave the very grants that were bought. What was spent of them the wallet owes, and its other grants pay
    it, as they pay any debt. What had expired was nobody's gain and is owed by nobody.

    Raises:
        NotFound: the payment has not landed.
        VersionConflict: something was taken since Stripe was asked; what it said then may be old.

    """
    bought = change.grant(grant_id_of(op.checkout_id))
    if bought is None:
        raise NotFound("This payment has not landed.", checkout_id=op.checkout_id)
    before = bought.taken or _NOTHING
    if before.version != op.seen:
        raise VersionConflict(expected_version=op.seen, version=before.version)
    grants = [bought]
    if (bonus := change.grant(bonus_id_of(op.checkout_id))) is not None:
        grants.append(bonus)
    returned = min(op.refunded + op.disputed, op.charged)
    moves = [(grant, grant.credits * returned // op.charged - (grant.taken or _NOTHING).credits) for grant in grants]
    if not any(more for _, more in moves):
        if (before.refunded, before.disputed) != (op.refunded, op.disputed):
            _note(change, bought, op)
        return
    balance = change.balance
    is_taking = any(more > 0 for _, more in moves)
    move = _take if is_taking else _give_back
    # The bought grant keeps what was said of the money, though its bonus alone may have moved.
    draws = move(change, op, [(grant, abs(more)) for grant, more in moves if more or grant is bought])
    credits = change.balance - balance
    kind = _kind(op, before, is_taking=is_taking)
    words = "Refund undone" if kind == "refund" and not is_taking else _WORDS[kind]
    detail = _said(op)
    after = change.grant(bought.id)
    assert after is not None
    # Of what was spent of it, so much is not paid for any more; below zero, more was spent or it is paid for again.
    unpaid = _paid_and_spent(bought) - _paid_and_spent(after)
    change.enter(kind, f"{words}: {op.description}", credits, draws=draws, detail=detail | {"unpaid": unpaid})
    change.tell("top_up.refunded", {**detail, "currency": bought.currency, "credits": credits, "reason": kind})
    if kind == "dispute" or (is_taking and op.purchase == "auto_top_up"):
        auto_top_up.stop(change, "disputed" if kind == "dispute" else "refunded")


def ask_refund(change: Change, op: AskRefund, _: Catalogue) -> None:
    """Keeps that a refund is asked for; what it takes is known once Stripe has made it."""
    detail = {"refund": {"checkout_id": op.checkout_id, "amount": op.amount}}
    change.enter("settings", f"Refund asked for: {op.description}", 0, reason=op.reason, detail=detail)


def refundable(charged: int, refunded: int, disputed: int) -> int:
    """How much of a payment's money may still be given back, in minor units."""
    return max(0, charged - refunded - disputed)


def _said(op: TakeBack) -> dict[str, Any]:
    """What an entry keeps of the money, and what is told of it."""
    return {"checkout_id": op.checkout_id, "amount_refunded": op.refunded, "amount_disputed": op.disputed}


def _paid_and_spent(grant: Grant) -> int:
    """Credits of a grant that were spent, and whose money stayed."""
    taken = grant.taken or _NOTHING
    return grant.credits - grant.remaining - grant.lapsed - taken.drawn - taken.owed


def _note(change: Change, bought: Grant, op: TakeBack) -> None:
    """Money moved and no credit with it: it is kept, so that an older word of it is known as one."""
    taken = _moved(change, bought.taken or _NOTHING, op, credits=0, drawn=0, owed=0)
    change.put(replace(bought, taken=taken))
    change.enter("settings", f"Payment moved: {op.description}", 0, detail=_said(op))


def status_of(
    charged: int, refunded: int, disputed: int
) -> Literal["paid", "partially_refunded", "refunded", "disputed"]:
    """What a payment is called whose money moved so far, in minor units."""
    if disputed:
        return "disputed"
    if not refunded:
        return "paid"
    return "refunded" if refunded >= charged else "partially_refunded"


def _kind(op: TakeBack, before: Taken, *, is_taking: bool) -> EntryKind:
    if is_taking:
        return "refund" if op.refunded > before.refunded else "dispute"
    return "dispute_reversal" if op.disputed < before.disputed else "refund"


def _take(change: Change, op: TakeBack, moves: Sequence[tuple[Grant, int]]) -> Draws:
    """Takes so many credits more of each grant; what they lack is owed, once all have given what they have."""
    draws = []
    for grant, more in moves:
        taken = grant.taken or _NOTHING
        drawn = min(more, grant.remaining)
        owed = more - drawn - min(more - drawn, grant.lapsed - taken.had_lapsed)
        after = _moved(change, taken, op, credits=more, drawn=drawn, owed=owed)
        change.put(replace(grant, remaining=grant.remaining - drawn, taken=after))
        change.balance -= drawn + owed
        change.debt += owed
        if drawn:
            draws.append((grant.id, drawn))
    return (*draws, *change.pay_debt())


def _give_back(change: Change, op: TakeBack, moves: Sequence[tuple[Grant, int]]) -> Draws:
    """Gives back of each grant what was owed first, then what had lapsed (nothing), then what was drawn."""
    draws = []
    credits = 0
    takens = []
    for grant, less in moves:
        taken = grant.taken or _NOTHING
        owed = min(less, taken.owed)
        drawn = max(0, less - owed - taken.had_lapsed)
        credits += owed + drawn
        if drawn:
            draws.append((grant.id, drawn))
        takens.append((grant.id, _moved(change, taken, op, credits=-less, drawn=-drawn, owed=-owed)))
    given = change.give_back(credits, tuple(draws), min(grant.version for grant, _ in moves))
    # What came back of a grant that has ended lasts for a day, and has lapsed as far as the grant goes.
    for_a_day = change.grant(grant_id_for(op.id, "d"))
    lapsed = for_a_day.credits if for_a_day else 0
    back = dict(draws)
    for grant_id, taken in takens:
        as_it_is = change.grant(grant_id)
        assert as_it_is is not None
        part = min(lapsed, back.get(grant_id, 0)) if as_it_is.ended(change.now) else 0
        lapsed -= part
        change.put(replace(as_it_is, taken=taken, lapsed=as_it_is.lapsed + part))
    return given


def _moved(change: Change, taken: Taken, op: TakeBack, *, credits: int, drawn: int, owed: int) -> Taken:
    return Taken(
        credits=taken.credits + credits,
        drawn=taken.drawn + drawn,
        owed=taken.owed + owed,
        version=change.version + 1,
        refunded=op.refunded,
        disputed=op.disputed,
    )
