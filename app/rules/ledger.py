"""The heart: what each operation does to one wallet.

`apply` takes a wallet as it stands and one operation, and returns the wallet after it with the entries to write.
It reads no clock and no database, so every promise of the ledger can be tested here, a history at a time.

The promises that hold after every call:

- each entry's version is the one before plus 1, and it stores the balance, held and available credits after it;
- `balance` = the sum of what remains in the grants − the debt (the part of a balance below zero);
- no event and no adjustment takes `available` below zero (an overdraft that is lowered may leave it there);
- a refusal is an exception, and nothing has happened.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from app.config import BALANCE_MAX
from app.errors import IdempotencyConflict, InsufficientCredits, InvalidRequest, NotFound, WalletFrozen
from app.rules.pricing import Catalogue, Quote

Category = Literal["paid", "promotional"]
EntryKind = Literal["event", "grant", "top_up", "adjustment", "settings"]

PRIORITY_DEFAULT: Final = 50
_NEVER: Final = 2**63 - 1


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Credits that came in together and are spent together.

    `version` is that of the entry that made it; times are milliseconds since 1970 in UTC; `amount` is what was paid
    for it, in minor units of `currency`.
    """

    id: str
    version: int
    category: Category
    credits: int
    remaining: int
    priority: int = PRIORITY_DEFAULT
    source: str
    created_at: int
    effective_at: int
    expires_at: int | None = None
    amount: int | None = None
    currency: str | None = None


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """One customer's wallet, in credits. Version 0 is a wallet that nobody has opened yet."""

    customer_id: str
    name: str | None = None
    balance: int = 0
    held: int = 0
    version: int = 0
    overdraft_limit: int = 0
    low_balance_threshold: int | None = None
    frozen: bool = False
    created_at: int = 0
    last_entry_at: int = 0

    @property
    def available(self) -> int:
        """What may be spent now: balance − held + overdraft limit."""
        return self.balance - self.held + self.overdraft_limit

    @property
    def low(self) -> bool:
        """Whether the balance is below the wallet's own threshold."""
        return self.low_balance_threshold is not None and self.balance < self.low_balance_threshold


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the ledger, never changed: what happened, by how many credits, and how the wallet stood after it.

    `draws` lists what was taken from which grant, as `(grant id, credits)`; `cost_nanos` is the provider's cost in
    billionths of a US dollar; `detail` holds what the answer to the operation needs beside the columns.
    """

    customer_id: str
    version: int
    id: str
    kind: EntryKind
    description: str
    credits: int
    balance: int
    held: int
    available: int
    created_at: int
    event: str | None = None
    model: str | None = None
    member: str | None = None
    quantity: int | None = None
    unit_credits: int | None = None
    price_version: int | None = None
    cost_nanos: int | None = None
    draws: tuple[tuple[str, int], ...] | None = None
    metadata: dict[str, Any] | None = None
    reason: str | None = None
    actor: str | None = None
    detail: dict[str, Any] | None = None
    idempotency_key: str | None = None
    request_hash: str | None = None


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """Something asked of one wallet.

    `id` is made before the operation is sent and becomes its entry's, so that a commit whose outcome is unknown can be
    looked up. `key` is the caller's idempotency key with a hash of the request it came with; `actor` names who asked.
    """

    customer_id: str
    id: str
    actor: str | None = None
    key: str | None = None
    request_hash: str | None = None


class Event(Operation, frozen=True, kw_only=True):
    """A product's action. `credits`, when given, is the whole price; otherwise the catalogue says."""

    event: str
    quantity: int = 1
    model: str | None = None
    credits: int | None = None
    member: str | None = None
    cost_nanos: int | None = None
    metadata: dict[str, Any]


class AddGrant(Operation, frozen=True, kw_only=True):
    """Credits given by hand."""

    credits: int
    category: Category
    priority: int = PRIORITY_DEFAULT
    reason: str | None = None


class Adjust(Operation, frozen=True, kw_only=True):
    """A correction with a reason: up makes a promotional grant, down burns grants in order."""

    credits: int
    reason: str


class TopUp(Operation, frozen=True, kw_only=True):
    """Credits that were bought. Its id follows from the checkout, so however often it is reported it lands once."""

    credits: int
    checkout_id: str
    description: str
    amount: int
    currency: str


class OpenWallet(Operation, frozen=True, kw_only=True):
    """A wallet made by name; one that is open already stays as it is."""

    name: str | None = None
    low_balance_threshold: int | None = None


class ChangeSettings(Operation, frozen=True, kw_only=True):
    """New values for some of `SETTINGS`; those not named stay."""

    changes: Mapping[str, Any]


SETTINGS: Final = ("name", "low_balance_threshold", "overdraft_limit", "frozen")


class State(msgspec.Struct, frozen=True):
    """A wallet and its grants that are not used up, in burn-down order."""

    wallet: Wallet
    grants: tuple[Grant, ...] = ()


class Applied(msgspec.Struct, frozen=True):
    """What an operation did: the state after it, its entries (its own last), and the grants it made or drew from."""

    state: State
    entries: tuple[Entry, ...]
    grants: tuple[Grant, ...]


def apply(state: State, operation: Operation, catalogue: Catalogue, now: int, welcome_credits: int = 0) -> Applied:
    """Applies one operation to one wallet.

    Args:
        state: the wallet as it stands; a customer never seen before has one of version 0.
        operation: what is asked.
        catalogue: the prices in force.
        now: the clock, in milliseconds. A clock that went back counts as the time of the wallet's last entry, so that
            the ledger's times only rise.
        welcome_credits: what a wallet is given when it is made, by an entry of its own.

    Raises:
        InsufficientCredits, WalletFrozen, UnknownEvent, InvalidRequest, NotFound: nothing happened.

    """
    change = _Change(state, operation, max(now, state.wallet.last_entry_at))
    if state.wallet.version == 0:
        if isinstance(operation, Adjust | ChangeSettings):
            raise NotFound("There is no wallet for this customer yet.", customer_id=operation.customer_id)
        change.open(welcome_credits)
    match operation:
        case Event():
            _event(change, operation, catalogue)
        case AddGrant():
            _add_grant(change, operation)
        case Adjust():
            _adjust(change, operation)
        case TopUp():
            _top_up(change, operation)
        case OpenWallet():
            _open_wallet(change, operation)
        case ChangeSettings():
            _change_settings(change, operation)
        case _:
            raise TypeError(f"no rule for {type(operation).__name__}")
    return change.result()


def replay(entry: Entry, operation: Operation) -> Entry:
    """The first answer to an operation whose key or id is in the ledger already.

    Raises:
        IdempotencyConflict: the key came with another request then.

    """
    if entry.id != operation.id and entry.request_hash != operation.request_hash:
        raise IdempotencyConflict
    return entry


def burn_down_order(grant: Grant) -> tuple[int, int, bool, int]:
    """Sorts grants as they are spent: lowest priority number, soonest to expire, promotional before paid, oldest."""
    return (
        grant.priority,
        _NEVER if grant.expires_at is None else grant.expires_at,
        grant.category == "paid",
        grant.version,
    )


def _event(change: "_Change", op: Event, catalogue: Catalogue) -> None:
    if change.wallet.frozen:
        raise WalletFrozen(customer_id=op.customer_id)
    if op.credits is None:
        quote = catalogue.quote(op.event, op.model, op.quantity)
    else:
        quote = Quote(op.credits, None, None, catalogue.label(op.event))
    draws = change.spend(quote.credits)
    change.enter(
        "event",
        quote.label,
        -quote.credits,
        draws=draws,
        event=op.event,
        model=op.model,
        member=op.member,
        quantity=op.quantity,
        unit_credits=quote.unit_credits,
        price_version=quote.price_version,
        cost_nanos=op.cost_nanos,
        metadata=op.metadata or None,
    )


def _add_grant(change: "_Change", op: AddGrant) -> None:
    label = "Promotional credits" if op.category == "promotional" else "Credits added"
    change.give("grant", label, op.id, op.credits, op.category, "grant", priority=op.priority, reason=op.reason)


def _adjust(change: "_Change", op: Adjust) -> None:
    if op.credits > 0:
        made = grant_id_for(op.id)
        change.give("adjustment", "Adjustment", made, op.credits, "promotional", "adjustment", reason=op.reason)
    else:
        draws = change.spend(-op.credits)
        change.enter("adjustment", "Adjustment", op.credits, draws=draws, reason=op.reason)


def _top_up(change: "_Change", op: TopUp) -> None:
    change.give(
        "top_up",
        op.description,
        grant_id_for(op.id),
        op.credits,
        "paid",
        op.checkout_id,
        amount=op.amount,
        currency=op.currency,
    )


def _open_wallet(change: "_Change", op: OpenWallet) -> None:
    if not change.opened:
        return
    change.wallet = replace(change.wallet, name=op.name, low_balance_threshold=op.low_balance_threshold)
    change.enter("settings", "Wallet opened", 0, detail=change.as_opened())


def _change_settings(change: "_Change", op: ChangeSettings) -> None:
    changes = {name: value for name, value in op.changes.items() if getattr(change.wallet, name) != value}
    if changes:
        change.wallet = replace(change.wallet, **changes)
        change.enter("settings", "Settings changed", 0, detail=changes)


def grant_id_for(operation_id: str, suffix: str = "") -> str:
    """The id of a grant that an operation makes beside its own entry: it follows from the operation's."""
    return f"grant_{operation_id.partition('_')[2]}{suffix}"


class _Change:
    """A wallet while one operation is applied to it. Lives inside one call of `apply` and never leaves it."""

    def __init__(self, state: State, operation: Operation, now: int) -> None:
        self.wallet = state.wallet
        self.opened = False
        self._before = state
        self._grants = state.grants
        self._operation = operation
        self._now = now
        self._entries: list[Entry] = []
        self._touched: dict[str, Grant] = {}

    def open(self, welcome_credits: int) -> None:
        self.opened = True
        self.wallet = replace(self.wallet, created_at=self._now)
        if welcome_credits:
            made = grant_id_for(self._operation.id, "w")
            self.give("grant", "Welcome credits", made, welcome_credits, "promotional", "welcome", entry_id=made)

    def spend(self, credits: int) -> tuple[tuple[str, int], ...]:
        """Takes credits from the grants in burn-down order; what they lack becomes debt, within the overdraft."""
        wallet = self.wallet
        if credits > wallet.available:
            raise InsufficientCredits(
                f"This needs {credits} credits and {max(wallet.available, 0)} are available.",
                required=credits,
                available=wallet.available,
                balance=wallet.balance,
            )
        draws: list[tuple[str, int]] = []
        left, rest = credits, self._grants
        while left and rest:
            grant = rest[0]
            taken = min(left, grant.remaining)
            left -= taken
            grant = replace(grant, remaining=grant.remaining - taken)
            rest = (grant, *rest[1:]) if grant.remaining else rest[1:]
            self._touched[grant.id] = grant
            draws.append((grant.id, taken))
        self._grants = rest
        self.wallet = replace(wallet, balance=wallet.balance - credits)
        return tuple(draws)

    def give(
        self,
        kind: EntryKind,
        label: str,
        grant_id: str,
        credits: int,
        category: Category,
        source: str,
        *,
        priority: int = PRIORITY_DEFAULT,
        amount: int | None = None,
        currency: str | None = None,
        reason: str | None = None,
        entry_id: str | None = None,
    ) -> None:
        """Brings credits in as a grant, by an entry. A debt is paid first; the grant holds what is left."""
        wallet = self.wallet
        if wallet.balance + credits > BALANCE_MAX:
            raise InvalidRequest(f"A wallet holds at most {BALANCE_MAX} credits.", field="credits")
        debt_paid = min(credits, max(0, -wallet.balance))
        grant = Grant(
            id=grant_id,
            version=wallet.version + 1,
            category=category,
            credits=credits,
            remaining=credits - debt_paid,
            priority=priority,
            source=source,
            created_at=self._now,
            effective_at=self._now,
            amount=amount,
            currency=currency,
        )
        self._touched[grant.id] = grant
        if grant.remaining:
            self._grants = tuple(sorted((*self._grants, grant), key=burn_down_order))
        self.wallet = replace(wallet, balance=wallet.balance + credits)
        detail = {"grant": msgspec.to_builtins(grant)}
        self.enter(kind, label, credits, reason=reason, detail=detail, entry_id=entry_id)

    def enter(
        self, kind: EntryKind, description: str, credits: int, *, entry_id: str | None = None, **columns: Any
    ) -> None:
        """Writes the entry of what was just done: the operation's own, unless it is given another id."""
        op, before = self._operation, self.wallet
        self.wallet = wallet = replace(before, version=before.version + 1, last_entry_at=self._now)
        if entry_id is None:
            columns |= {"idempotency_key": op.key, "request_hash": op.request_hash}
        self._entries.append(
            Entry(
                customer_id=wallet.customer_id,
                version=wallet.version,
                id=entry_id or op.id,
                kind=kind,
                description=description,
                credits=credits,
                balance=wallet.balance,
                held=wallet.held,
                available=wallet.available,
                created_at=self._now,
                actor=op.actor,
                **columns,
            )
        )

    def as_opened(self) -> dict[str, Any]:
        """The wallet as its opening entry leaves it: a replay answers with it, whatever has happened since."""
        wallet = replace(self.wallet, version=self.wallet.version + 1, last_entry_at=self._now)
        return {"wallet": msgspec.to_builtins(wallet), "grants": msgspec.to_builtins(self._grants)}

    def result(self) -> Applied:
        if not self._entries:
            return Applied(self._before, (), ())
        return Applied(State(self.wallet, self._grants), tuple(self._entries), tuple(self._touched.values()))
