"""A wallet that fills itself: when the saved card is charged, how often, and when it is given up.

It is decided in the transaction of whatever lowered the balance. The attempt that comes of it is a checkout of its
own, which is charged afterwards and lands, or fails, as an operation.
"""

from typing import Any, Final

from msgspec.structs import replace

from app.config import AUTO_TOP_UP_FAILURES_MAX, AUTO_TOP_UP_PAUSES_SECONDS
from app.rules.change import Change
from app.rules.operations import AskRefund, FailTopUp, TopUp, derived_id
from app.rules.periods import window_end, window_start
from app.rules.pricing import Catalogue
from app.rules.times import rfc3339
from app.rules.wallet import Attempt, AutoTopUp

MONTHLY_LIMIT: Final = "monthly_limit"
NOT_ON_SALE: Final = "pack_not_on_sale"


def consider(change: Change, catalogue: Catalogue) -> None:
    """Begins an automatic top-up where one is due: after each operation on a wallet that has them."""
    auto = change.wallet.auto_top_up
    if auto is None or auto.attempt or auto.stopped or change.wallet.frozen or change.balance >= auto.threshold:
        return
    if auto.waits_until is not None and change.now < auto.waits_until:
        change.due(auto.waits_until)
        return
    pack = catalogue.packs.get(auto.pack)
    if pack is None:
        _set(change, auto, "Automatic top-up stopped", stopped=NOT_ON_SALE, reason=NOT_ON_SALE)
        change.tell("top_up.failed", _facts(auto.pack, NOT_ON_SALE))
        return
    if charged_this_month(auto, change.now) + pack.amount > auto.monthly_limit:
        until = window_end("month", change.now)
        _set(change, auto, "Automatic top-up waits for the next month", waits_until=until, reason=MONTHLY_LIMIT)
        change.due(until)
        change.tell("top_up.failed", _facts(auto.pack, MONTHLY_LIMIT))
        return
    # No checkout that was made by hand has such an id: those end where this one goes on.
    attempt_id = f"{derived_id('co', change.operation.id)}a{change.version}"
    _set(change, auto, "Automatic top-up begun", attempt=attempt_id, waits_until=None, reason=None)
    change.attempt(
        Attempt(
            id=attempt_id,
            pack=pack.code,
            description=f"{pack.name}: {pack.credits:,} credits",
            credits=pack.credits,
            bonus_credits=pack.bonus_credits,
            bonus_days=pack.bonus_days,
            amount=pack.amount,
            currency=pack.currency,
            at=change.now,
        )
    )


def landed(change: Change, op: TopUp) -> None:
    """Counts a payment that landed: an automatic one in its month; a new card makes a wallet that gave up try again."""
    auto = change.wallet.auto_top_up
    if auto is None:
        return
    if op.purchase == "auto_top_up":
        auto = replace(auto, charged=charged_this_month(auto, change.now) + op.amount, charged_at=change.now)
    if op.checkout_id == auto.attempt or op.card_saved:
        attempt = None if op.checkout_id == auto.attempt else auto.attempt
        auto = replace(auto, attempt=attempt, failures=0, waits_until=None, stopped=None, reason=None)
    if auto is not change.wallet.auto_top_up:
        change.set(auto_top_up=auto)


def fail(change: Change, op: FailTopUp, _: Catalogue) -> None:
    """Ends an attempt that failed: pauses grow from one to the next, and after the last the wallet stops trying."""
    auto = change.wallet.auto_top_up
    if auto is None or auto.attempt != op.checkout_id:
        return
    failures = auto.failures + int(op.counts)
    pause = AUTO_TOP_UP_PAUSES_SECONDS[min(failures, len(AUTO_TOP_UP_PAUSES_SECONDS)) - 1] if op.counts else 0
    stopped = op.reason if failures >= AUTO_TOP_UP_FAILURES_MAX else None
    auto = replace(
        auto,
        attempt=None,
        failures=failures,
        waits_until=change.now + pause * 1000 if pause and not stopped else None,
        stopped=stopped,
        reason=op.reason,
    )
    change.set(auto_top_up=auto)
    facts = _facts(op.pack, op.reason) | {
        "checkout_id": op.checkout_id,
        "amount": op.amount,
        "currency": op.currency,
        "pay_url": op.pay_url,
        "failures": failures,
        "stopped": stopped is not None,
        "retry_at": None if auto.waits_until is None else rfc3339(auto.waits_until),
    }
    change.enter("settings", "Automatic top-up failed", 0, reason=op.reason, detail={"auto_top_up": auto} | facts)
    change.tell("top_up.failed", facts)


def ask_refund(change: Change, op: AskRefund, _: Catalogue) -> None:
    """Keeps that a refund is asked for; what it takes is known once Stripe has made it."""
    detail = {"refund": {"checkout_id": op.checkout_id, "amount": op.amount}}
    change.enter("settings", f"Refund asked for: {op.description}", 0, reason=op.reason, detail=detail)


def charged_this_month(auto: AutoTopUp, now: int) -> int:
    """What was charged by itself in the calendar month of a time (ms), in minor units."""
    return auto.charged if window_start("month", auto.charged_at) == window_start("month", now) else 0


def changed(before: AutoTopUp | None, after: AutoTopUp | None) -> AutoTopUp | None:
    """New settings of a wallet that may have an attempt under way and a month behind it: those stay, failures end."""
    if before is None or after is None:
        return after
    return replace(after, attempt=before.attempt, charged=before.charged, charged_at=before.charged_at)


def _set(change: Change, auto: AutoTopUp, what: str, **fields: Any) -> None:
    after = replace(auto, **fields)
    change.set(auto_top_up=after)
    entry_id = f"{derived_id('auto', change.operation.id)}_{change.version + 1}"
    change.enter("settings", what, 0, detail={"auto_top_up": after}, entry_id=entry_id, by_time=True)


def _facts(pack: str, reason: str) -> dict[str, Any]:
    return {"pack": pack, "reason": reason, "checkout_id": None, "pay_url": None}
