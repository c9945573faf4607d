"""The heart: what each operation does to one wallet.

`apply` takes a wallet as it stands and one operation, and returns the wallet after it with the entries to write.
It reads no clock and no database, so every promise of the ledger can be tested here, a history at a time.

The promises that hold after every call:

- each entry's version is the one before plus 1, and it stores the balance, held and available credits after it;
- `balance` = the sum of what remains in the grants that have become effective − `debt`;
- `held` = the sum of the open holds;
- no event, hold, expiry, void or adjustment takes `available` below zero (a lowered overdraft may leave it there);
- a refusal is an exception, and nothing has happened.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from app.config import BALANCE_MAX, HOLDS_OPEN_MAX
from app.errors import (
    Busy,
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
from app.rules import auto_top_up
from app.rules.alerts import watch
from app.rules.change import Change
from app.rules.limits import left_of_limit, limit_of
from app.rules.operations import (
    AddGrant,
    Adjust,
    AskRefund,
    Capture,
    ChangeSettings,
    Event,
    FailTopUp,
    LimitMember,
    MakeHold,
    OpenWallet,
    Operation,
    Release,
    RestartTopUps,
    Reverse,
    Settle,
    TakeBack,
    TopUp,
    VoidGrant,
    grant_id_for,
)
from app.rules.periods import DAY_MS, RECURS_BEFORE, occurrence
from app.rules.pricing import Catalogue, Quote
from app.rules.settling import columns_of, ends_of_period, label_of, settle, take_lapsed, take_needless
from app.rules.taking_back import ask_refund, take_back
from app.rules.wallet import Applied, Entry, Grant, Hold, State, Wallet
from app.rules.worth import Worth, of_money, of_packs

CAPTURE_EVENT: Final = "hold.capture"
"""What a capture is entered as where neither it nor its hold names an event."""
_HELD_LABEL: Final = "Credits set apart"
_OPENS: Final = (Event, MakeHold, AddGrant, TopUp, OpenWallet, LimitMember)


def apply(state: State, operation: Operation, catalogue: Catalogue, now: int, welcome_credits: int = 0) -> Applied:
    """Applies one operation to one wallet, after what time has brought.

    Args:
        state: the wallet as it stands; a customer never seen before has one of version 0.
        operation: what is asked.
        catalogue: the prices in force.
        now: the clock, in milliseconds. A clock that went back counts as the time of the wallet's last entry, so that
            the ledger's times only rise.
        welcome_credits: what a wallet is given when it is made, by an entry of its own.

    Raises:
        InsufficientCredits, SpendLimitReached, WalletFrozen, UnknownEvent, InvalidRequest, NotFound, HoldNotOpen,
        TooManyHolds: nothing happened.
        Busy: time has brought more than is settled at once. `Settle` goes on with it.

    """
    wallet = state.wallet
    change = Change(state, operation, max(now, wallet.last_entry_at))
    if change.is_due:
        settle(change)
        if change.is_due and not isinstance(operation, Settle):
            raise Busy("This wallet waits for more than is brought at once; it is being settled, so try again.")
    if wallet.version == 0:
        if not isinstance(operation, _OPENS):
            raise NotFound("There is no wallet for this customer yet.", customer_id=operation.customer_id)
        change.open(welcome_credits)
    _RULES[type(operation)](change, operation, catalogue)
    if change.others:
        take_needless(change)
    if change.has_entries:
        watch(change)
    # Money that goes back is no reason to fetch it again.
    if change.wallet.auto_top_up is not None and not isinstance(operation, TakeBack):
        auto_top_up.consider(change, catalogue)
    return change.result()


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What an action would cost now, and what would become of it.

    `refusal` is the code of what would refuse it; `covers` says how many such actions the wallet and its limits cover
    (None: any number).
    """

    credits: int
    refusal: str | None
    balance: int
    available: int
    covers: int | None


def offer(state: State, operation: Event, catalogue: Catalogue, now: int, welcome_credits: int = 0) -> Offer:
    """What `apply` would make of an event; takes the same.

    Raises:
        UnknownEvent, InvalidRequest: it has no price.
        Busy: as of `apply`.

    """
    credits = catalogue.quote(operation.event, operation.model, operation.quantity).credits
    refusal = None
    try:
        apply(state, operation, catalogue, now, welcome_credits)
    except (InsufficientCredits, SpendLimitReached, WalletFrozen) as error:
        refusal = error.code
    wallet = _as_of(state, operation, now, welcome_credits)
    now = max(now, wallet.last_entry_at)
    most = [0 if wallet.frozen else max(0, wallet.available), left_of_limit(wallet, now, held=wallet.held)]
    if operation.member is not None and (member := state.members.get(operation.member)) is not None:
        most.append(left_of_limit(member, now, held=member.held))
    return Offer(
        credits=credits,
        refusal=refusal,
        balance=wallet.balance,
        available=wallet.available,
        covers=min(left for left in most if left is not None) // credits if credits else None,
    )


def _as_of(state: State, operation: Operation, now: int, welcome_credits: int) -> Wallet:
    """The wallet as an operation would find it: opened where it is new, with what time has brought."""
    if state.wallet.version == 0:
        return replace(state.wallet, balance=welcome_credits)
    settling = Settle(customer_id=operation.customer_id, id=operation.id)
    return apply(state, settling, Catalogue(0, {}), now).state.wallet


def replay(entry: Entry, operation: Operation) -> Entry:
    """The first answer to an operation whose key or id is in the ledger already.

    Raises:
        IdempotencyConflict: the key came with another request then.
        HoldNotOpen: the hold was captured by another request.

    """
    if entry.request_hash == operation.request_hash:
        return entry
    if entry.id != operation.id or (operation.key is not None and operation.key == entry.idempotency_key):
        raise IdempotencyConflict
    if isinstance(operation, Capture):
        raise _not_open("captured")
    return entry


# Spending


def _event(change: Change, op: Event, catalogue: Catalogue) -> None:
    _check_not_frozen(change)
    quote = _price(catalogue, op.event, op.model, op.quantity, op.credits)
    change.check_limits(quote.credits, op.member)
    change.check_funds(quote.credits)
    _charge(
        change,
        quote,
        op,
        catalogue,
        event=op.event,
        model=op.model,
        member=op.member,
        quantity=op.quantity,
        metadata=op.metadata,
    )


def _price(catalogue: Catalogue, event: str, model: str | None, quantity: int, credits: int | None) -> Quote:
    if credits is None:
        return catalogue.quote(event, model, quantity)
    return Quote(credits, None, None, catalogue.label(event))


def _check_not_frozen(change: Change) -> None:
    if change.wallet.frozen:
        raise WalletFrozen(customer_id=change.wallet.customer_id)


def _charge(
    change: Change,
    quote: Quote,
    op: Event | Capture,
    catalogue: Catalogue,
    *,
    event: str,
    model: str | None,
    member: str | None,
    quantity: int,
    metadata: dict[str, Any] | None,
    captured_from: dict[str, Any] | None = None,
) -> None:
    """Takes what an action costs; `captured_from` tells of the hold that it was captured from.

    What a provider charged for it is what the caller says, else what the catalogue knows.
    """
    draws = change.burn(quote.credits, lapsed_first=captured_from is not None)
    change.count_spent(quote.credits, member)
    change.enter(
        "event",
        quote.label,
        -quote.credits,
        draws=draws,
        event=event,
        model=model,
        member=member,
        quantity=quantity,
        unit_credits=quote.unit_credits,
        price_version=quote.price_version,
        cost_nanos=catalogue.cost(event, model, quantity) if op.cost_nanos is None else op.cost_nanos,
        metadata=metadata or None,
        detail=captured_from,
    )


def _reverse(change: Change, op: Reverse, _: Catalogue) -> None:
    event = op.event
    credits = -event.credits
    draws = change.give_back(credits, event.draws or (), event.version)
    change.count_given_back(credits, event.member, event.created_at)
    change.enter(
        "reversal",
        f"Returned: {event.description}",
        credits,
        draws=draws,
        event=event.event,
        model=event.model,
        member=event.member,
        quantity=event.quantity,
        reason=op.reason,
        detail={"event_id": event.id, "event_at": event.created_at},
    )


# Holds


def _make_hold(change: Change, op: MakeHold, catalogue: Catalogue) -> None:
    _check_not_frozen(change)
    if change.open_holds >= HOLDS_OPEN_MAX:
        raise TooManyHolds(
            f"A wallet has at most {HOLDS_OPEN_MAX} open holds; capture or release some.", limit=HOLDS_OPEN_MAX
        )
    price = _price_of_hold(op, catalogue)
    credits = price.credits if op.credits is None else op.credits
    if not credits:
        raise InvalidRequest("credits: this event is free, and a hold sets at least one credit apart.", field="credits")
    change.check_limits(credits, op.member)
    change.check_funds(credits)
    hold = Hold(
        id=op.id,
        version=change.version + 1,
        status="open",
        label=price.label,
        event=op.event,
        model=op.model,
        member=op.member,
        quantity=op.quantity,
        credits=credits,
        unit_credits=price.unit_credits,
        price_version=price.price_version,
        created_at=change.now,
        expires_at=change.now + op.expires_in * 1000,
        metadata=op.metadata or None,
        rate=None if price.rate is None or price.rate.is_plain else price.rate,
    )
    change.count_held(credits, op.member)
    change.put_hold(hold)
    change.enter("hold", f"Held: {hold.label}", 0, **columns_of(hold), detail={"hold": msgspec.structs.asdict(hold)})


def _price_of_hold(op: MakeHold, catalogue: Catalogue) -> Quote:
    """The price that the hold pins: its capture is priced by it, even where the hold itself is over so many credits."""
    if op.event is None:
        return Quote(0, None, None, _HELD_LABEL)
    if op.credits is None:
        return catalogue.quote(op.event, op.model, op.quantity)
    try:
        return catalogue.quote(op.event, op.model)
    except UnknownEvent:
        return Quote(0, None, None, catalogue.label(op.event))


def _capture(change: Change, op: Capture, catalogue: Catalogue) -> None:
    hold = _open_hold(change, op.hold_id)
    event = hold.event or op.event or CAPTURE_EVENT
    if op.event is not None and op.event != event:
        raise InvalidRequest(f"event: this hold is for {event!r}.", field="event")
    quote, quantity = _price_of_capture(hold, op, event, catalogue)
    if quote.credits > hold.credits:
        _check_not_frozen(change)
        change.check_limits(quote.credits, hold.member, held_before=hold.credits)
        change.check_funds(quote.credits, held_before=hold.credits)
    change.close_hold(hold, "captured")
    _charge(
        change,
        quote,
        op,
        catalogue,
        event=event,
        model=hold.model,
        member=hold.member,
        quantity=quantity,
        metadata=op.metadata or hold.metadata,
        captured_from={"hold_id": hold.id, "held": hold.credits},
    )
    take_lapsed(change)


def _price_of_capture(hold: Hold, op: Capture, event: str, catalogue: Catalogue) -> tuple[Quote, int]:
    label = hold.label if hold.event is not None else catalogue.label(event)
    if op.credits is not None:
        return Quote(op.credits, None, None, label), hold.quantity
    quantity = hold.quantity if op.quantity is None else op.quantity
    if (rate := hold.priced_by) is not None:
        if op.quantity is None and hold.credits != rate.sum_of(hold.quantity):  # it was over so many credits
            return Quote(hold.credits, None, None, label), quantity
        return Quote.by(rate, quantity, hold.price_version, label), quantity
    if op.quantity is None:
        return Quote(hold.credits, None, None, label), quantity
    if hold.event is None and op.event is not None:
        return catalogue.quote(op.event, hold.model, quantity), quantity
    raise InvalidRequest("quantity: this hold has no price for one unit; capture it with credits.", field="quantity")


def _release(change: Change, op: Release, _: Catalogue) -> None:
    hold = change.close_hold(_open_hold(change, op.hold_id), "released")
    change.enter(
        "release",
        f"Released: {hold.label}",
        0,
        **columns_of(hold),
        reason=op.reason,
        detail={"hold": msgspec.structs.asdict(hold)},
    )
    take_lapsed(change)


def _open_hold(change: Change, hold_id: str) -> Hold:
    hold = change.holds.get(hold_id)
    if hold is None:
        raise NotFound("There is no such hold.")
    if hold.status != "open":
        raise _not_open(hold.status)
    return hold


def _not_open(status: str) -> HoldNotOpen:
    return HoldNotOpen(f"This hold is {status}.", status=status)


# Grants and corrections


def _add_grant(change: Change, op: AddGrant, catalogue: Catalogue) -> None:
    change.check_number_of_grants()
    starts = change.now if op.effective_at is None else max(op.effective_at, change.now)
    _check_times(op, starts, change.now)
    grant = Grant(
        id=op.id,
        version=change.version + 1,
        state="pending" if starts > change.now else "active",
        category=op.category,
        credits=op.credits,
        remaining=op.credits,
        priority=op.priority,
        source="grant",
        created_at=change.now,
        effective_at=starts,
        expires_at=op.expires_at,
        **_columns(_worth_of_grant(op, catalogue)),
    )
    if op.every is not None:
        grant = _recurring(grant, op)
    change.check_room(op.credits)
    if grant.state == "pending":
        _schedule(change, grant, op)
        return
    grant, draws = change.bring_in(grant)
    detail = {"grant": msgspec.structs.asdict(grant)}
    change.enter("grant", label_of(grant), op.credits, draws=draws, reason=op.reason, detail=detail)


def _worth_of_grant(op: AddGrant, catalogue: Catalogue) -> Worth | None:
    if op.category != "paid":
        return None
    if op.usd_nanos is not None:
        return Worth(round(Fraction(op.usd_nanos, op.credits)), "usd")
    return of_packs(catalogue.packs.values())


def _columns(worth: Worth | None) -> dict[str, Any]:
    return {} if worth is None else {"worth_nanos": worth.nanos, "worth_currency": worth.currency}


def _check_times(op: AddGrant, starts: int, now: int) -> None:
    if op.expires_at is not None and op.expires_at <= now:
        raise InvalidRequest("expires_at: it lies in the past.", field="expires_at")
    if op.expires_at is not None and op.expires_at <= starts:
        raise InvalidRequest("expires_at: it must lie after effective_at.", field="expires_at")
    if op.every is not None and starts >= RECURS_BEFORE:
        raise InvalidRequest("effective_at: what comes again begins before the year 9999.", field="effective_at")


def _recurring(grant: Grant, op: AddGrant) -> Grant:
    assert op.every is not None
    grant = replace(
        grant, every=op.every, rollover=op.rollover or "none", anchor_at=grant.effective_at, ends_at=op.expires_at
    )
    return replace(grant, **ends_of_period(grant, occurrence(grant.effective_at, op.every, 1)))


def _schedule(change: Change, grant: Grant, op: AddGrant) -> None:
    waiting = sum(one.credits for one in change.others.values() if one.state == "pending")
    if change.balance + waiting + grant.credits > BALANCE_MAX:
        raise InvalidRequest(f"credits: a wallet holds at most {BALANCE_MAX} credits.", field="credits")
    change.put(grant)
    detail = {"grant": msgspec.structs.asdict(grant)}
    change.enter("settings", f"Scheduled: {label_of(grant)}", 0, reason=op.reason, detail=detail)


def _void_grant(change: Change, op: VoidGrant, _: Catalogue) -> None:
    grant = change.grant(op.grant_id)
    if grant is None:
        raise NotFound("There is no such grant in this wallet.")
    if grant.has_ended:
        raise InvalidRequest(f"This grant is {grant.state} already.", field="grant_id", status=grant.state)
    if not grant.remaining and grant.next_at is None:
        raise InvalidRequest("This grant is used up; there is nothing to take back.", field="grant_id")
    pending = grant.state == "pending"
    taken = grant.remaining if pending else min(grant.remaining, max(0, change.available))
    left = grant.remaining - taken
    voided = replace(grant, state="voided", remaining=left, lapsed=grant.lapsed + taken, next_at=None)
    change.put(voided)
    credits = 0 if pending else -taken
    change.balance += credits
    change.enter(
        "settings" if pending else "void",
        "Scheduled credits withdrawn" if pending else "Credits withdrawn",
        credits,
        draws=((grant.id, taken),) if taken else None,
        reason=op.reason,
        detail={"grant": msgspec.structs.asdict(voided)},
    )


def _adjust(change: Change, op: Adjust, _: Catalogue) -> None:
    if op.credits > 0:
        change.check_number_of_grants()
        made = grant_id_for(op.id)
        change.give("adjustment", "Adjustment", made, op.credits, "promotional", "adjustment", reason=op.reason)
    else:
        change.check_funds(-op.credits)
        draws = change.burn(-op.credits)
        change.enter("adjustment", "Adjustment", op.credits, draws=draws, reason=op.reason)


def _top_up(change: Change, op: TopUp, _: Catalogue) -> None:
    change.give(
        "top_up",
        f"Top-up: {op.description}",
        grant_id_for(op.id),
        op.credits,
        "paid",
        op.checkout_id,
        amount=op.amount,
        currency=op.currency,
        expires_at=op.expires_at,
        # Tax on top is nobody's revenue, and what a promotion took off was never paid.
        **_columns(of_money(min(op.amount, op.paid), op.currency, op.credits, op.usd_rate)),
    )
    if op.bonus_credits:
        bonus_id = grant_id_for(op.id, "b")
        change.give(
            "grant",
            f"Bonus: {op.description}",
            bonus_id,
            op.bonus_credits,
            "promotional",
            op.checkout_id,
            entry_id=bonus_id,
            expires_at=None if op.bonus_days is None else change.now + op.bonus_days * DAY_MS,
        )
    auto_top_up.landed(change, op)
    facts = {
        "checkout_id": op.checkout_id,
        "purchase": op.purchase,
        "pack": op.pack,
        "credits": op.credits,
        "bonus_credits": op.bonus_credits,
        "amount": op.amount,
        "currency": op.currency,
    }
    change.tell("top_up.succeeded", facts)


# Settings


def _open_wallet(change: Change, op: OpenWallet, _: Catalogue) -> None:
    if change.opened:
        change.set(name=op.name, low_balance_threshold=op.low_balance_threshold)
        change.enter("settings", "Wallet opened", 0, detail=change.as_opened())


def _change_settings(change: Change, op: ChangeSettings, _: Catalogue) -> None:
    asked = dict(op.changes)
    if "auto_top_up" in asked:
        asked["auto_top_up"] = auto_top_up.changed(change.wallet.auto_top_up, asked["auto_top_up"])
    changes = {name: value for name, value in asked.items() if getattr(change.wallet, name) != value}
    if changes:
        change.set(**changes)
        change.enter("settings", "Settings changed", 0, detail=changes)


def _limit_member(change: Change, op: LimitMember, _: Catalogue) -> None:
    member = change.member(op.member)
    known = op.member in change.members
    if known and (member.limit_credits, member.limit_per) == (op.limit_credits, op.limit_per):
        return
    change.put_member(replace(member, limit_credits=op.limit_credits, limit_per=op.limit_per))
    detail = {"member": op.member, "spend_limit": limit_of(op.limit_credits, op.limit_per)}
    change.enter("settings", "Member's limit changed", 0, member=op.member, detail=detail)


def _settle(_change: Change, _op: Settle, _: Catalogue) -> None:
    """Time has been brought already."""


_RULES: Final[Mapping[type[Operation], Callable[[Change, Any, Catalogue], None]]] = {
    Event: _event,
    Reverse: _reverse,
    MakeHold: _make_hold,
    Capture: _capture,
    Release: _release,
    AddGrant: _add_grant,
    VoidGrant: _void_grant,
    Adjust: _adjust,
    TopUp: _top_up,
    FailTopUp: auto_top_up.fail,
    RestartTopUps: auto_top_up.restart,
    AskRefund: ask_refund,
    TakeBack: take_back,
    OpenWallet: _open_wallet,
    ChangeSettings: _change_settings,
    LimitMember: _limit_member,
    Settle: _settle,
}
