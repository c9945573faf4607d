"""A wallet that fills itself: when the saved card is charged, how often, and when it is given up.

It is decided in the transaction of whatever lowered the balance. The attempt that comes of it is a checkout of its
own, which is charged afterwards and lands, or fails, as an operation.
"""

from typing import Any, Final

from msgspec.structs import replace

from app.config import AUTO_TOP_UP_FAILURES_MAX, AUTO_TOP_UP_PAUSES_SECONDS
from app.rules.change import Change
from app.rules.notices import top_up_failed
from app.rules.operations import FailTopUp, RestartTopUps, TopUp, derived_id
from app.rules.packs import Pack
from app.rules.periods import window_end, window_start
from app.rules.pricing import Catalogue
from app.rules.wallet import Attempt, AutoTopUp

_BASE_ID_CHARACTERS: Final = 29
"""Of an id as they are made: its prefix, the time, the wallet's hash, and chance."""
MONTHLY_LIMIT: Final = "monthly_limit"
NOT_ON_SALE: Final = "pack_not_on_sale"
OTHER_CURRENCY: Final = "pack_currency_changed"


def consider(change: Change, catalogue: Catalogue) -> None:
    """Begins an automatic top-up where one is due: after each operation on a wallet that has them."""
    auto = change.wallet.auto_top_up
    if auto is None or not auto.enabled or auto.attempt or auto.stopped:
        return
    if change.wallet.frozen or change.balance >= auto.threshold:
        return
    if auto.waits_until is not None and change.now < auto.waits_until:
        change.due(auto.waits_until)
        return
    pack = catalogue.packs.get(auto.pack)
    if pack is None:
        _set(change, auto, "Automatic top-up stopped", stopped=NOT_ON_SALE, reason=NOT_ON_SALE)
        change.tell("top_up.failed", top_up_failed(pack=auto.pack, reason=NOT_ON_SALE, stopped=True))
        return
    if auto.currency and pack.currency != auto.currency:  # the month's limit says nothing of another one's money
        _set(change, auto, "Automatic top-up stopped", stopped=OTHER_CURRENCY, reason=OTHER_CURRENCY)
        change.tell("top_up.failed", top_up_failed(pack=auto.pack, reason=OTHER_CURRENCY, stopped=True))
        return
    if charged_this_month(auto, change.now, pack.currency) + pack.amount > auto.monthly_limit:
        until = window_end("month", change.now)
        _set(change, auto, "Automatic top-up waits for the next month", waits_until=until, reason=MONTHLY_LIMIT)
        change.due(until)
        change.tell("top_up.failed", top_up_failed(pack=auto.pack, reason=MONTHLY_LIMIT, retry_at=until))
        return
    # No checkout made otherwise has such an id: theirs end before the `a`. What lands of an attempt may begin the next,
    # whose id must not grow by that: Stripe takes it as a key.
    attempt_id = f"{derived_id('co', change.operation.id)[:_BASE_ID_CHARACTERS]}a{change.version}"
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
        charged = charged_this_month(auto, change.now, op.currency) + op.amount
        auto = replace(auto, charged=charged, charged_at=change.now, charged_in=op.currency)
    if op.card_saved:  # the one that the settings named may be the one that failed
        auto = replace(auto, stripe_customer=None, payment_method=None)
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
    facts = top_up_failed(
        pack=op.pack,
        reason=op.reason,
        checkout_id=op.checkout_id,
        amount=op.amount,
        currency=op.currency,
        pay_url=op.pay_url,
        failures=failures,
        stopped=stopped is not None,
        retry_at=auto.waits_until,
    )
    change.enter("settings", "Automatic top-up failed", 0, reason=op.reason, detail={"auto_top_up": auto} | facts)
    change.tell("top_up.failed", facts)


def restart(change: Change, op: RestartTopUps, _: Catalogue) -> None:
    """A new card was saved: a wallet that gave up, or waits, tries again, and with that card."""
    auto = change.wallet.auto_top_up
    if auto is None or not (auto.stopped or auto.failures or auto.payment_method):
        return
    after = replace(
        auto,
        stripe_customer=None,
        payment_method=None,
        failures=0,
        stopped=None,
        waits_until=None,
        reason=None,
    )
    change.set(auto_top_up=after)
    change.enter("settings", "Card saved", 0, detail={"auto_top_up": after})


def stop(change: Change, reason: str) -> None:
    """Ends automatic top-ups of a wallet until its settings or a new card begin them anew."""
    auto = change.wallet.auto_top_up
    if auto is not None and not auto.stopped:
        change.set(auto_top_up=replace(auto, stopped=reason, reason=reason, waits_until=None))


def charged_this_month(auto: AutoTopUp, now: int, currency: str) -> int:
    """What was charged by itself in the calendar month of a time (ms), in minor units of a currency."""
    same = auto.charged_in == currency and window_start("month", auto.charged_at) == window_start("month", now)
    return auto.charged if same else 0


def fits_month(pack: Pack, monthly_limit: int) -> bool:
    """Whether a month's limit, in minor units of the pack's currency, lets the pack be bought at all."""
    return pack.amount <= monthly_limit


def changed(before: AutoTopUp | None, after: AutoTopUp | None) -> AutoTopUp | None:
    """New settings, or their end: an attempt under way and the month behind it stay known, failures are forgotten."""
    if before is None:
        return after
    kept = {name: getattr(before, name) for name in ("attempt", "charged", "charged_at", "charged_in")}
    if after is None:
        return replace(before, enabled=False, failures=0, waits_until=None, stopped=None, reason=None)
    return replace(after, **kept)


def _set(change: Change, auto: AutoTopUp, what: str, **fields: Any) -> None:
    after = replace(auto, **fields)
    change.set(auto_top_up=after)
    entry_id = f"{derived_id('auto', change.operation.id)}_{change.version + 1}"
    change.enter("settings", what, 0, detail={"auto_top_up": after}, entry_id=entry_id, by_time=True)
