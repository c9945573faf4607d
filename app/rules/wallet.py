"""What is kept of a wallet: its row, its grants, holds and members, and its ledger's entries.

Credits are whole numbers, times are milliseconds since 1970 in UTC. Every field is a column of its table. Nothing here
can lead back to itself, so the garbage collector is not shown it (`gc=False`): thousands are made a second.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from app.rules.notices import Notice
from app.rules.periods import Per
from app.rules.pricing import Rate

Category = Literal["paid", "promotional"]
GrantState = Literal["pending", "active", "expired", "voided"]
Rollover = Literal["none", "all"]
HoldStatus = Literal["open", "captured", "released", "expired"]
EntryKind = Literal[
    "event",
    "reversal",
    "grant",
    "top_up",
    "refund",
    "dispute",
    "dispute_reversal",
    "expiry",
    "adjustment",
    "void",
    "hold",
    "release",
    "hold_expiry",
    "settings",
]
Alert = Literal["low", "depleted"]

PRIORITY_DEFAULT: Final = 50
QUIET_KINDS: Final = ("hold", "release", "hold_expiry", "settings")
"""Kinds of entries that move no credits: listed only when they are asked for, and not shown live."""
_NEVER: Final = 2**63 - 1


class Taken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How much of a bought grant was taken back, because its money was refunded or is disputed.

    Of `credits`, `drawn` were still there; `owed` had been spent, so the wallet owed them; the rest had lapsed, and
    nobody loses them twice. `version` is that of the last entry that moved it, and `refunded` and `disputed` the money
    that it rested on, in minor units.
    """

    credits: int
    drawn: int
    owed: int
    version: int
    refunded: int
    disputed: int

    @property
    def had_lapsed(self) -> int:
        """Those that had lapsed before they could be taken."""
        return self.credits - self.drawn - self.owed


class Grant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Credits that came in together and are spent together.

    `version` is that of the entry that made it, `amount` what was paid for it in minor units of `currency`, and
    `debt_paid` how many of its credits went to a debt of the wallet. One that is expired or voided keeps in
    `remaining` what the holds that were open then may still need; `lapsed` is what expired or was withdrawn of it. Of
    a recurring one (`every`), the newest has `next_at`; `anchor_at` is where its periods are counted from, `period`
    its number, `ends_at` where they end. Each credit is worth `worth_nanos` billionths of `worth_currency`; None is one
    that earns nothing, or nobody knows what.
    """

    id: str
    version: int
    state: GrantState = "active"
    category: Category
    credits: int
    remaining: int
    debt_paid: int = 0
    priority: int = PRIORITY_DEFAULT
    source: str
    created_at: int
    effective_at: int
    expires_at: int | None = None
    amount: int | None = None
    currency: str | None = None
    every: Per | None = None
    rollover: Rollover | None = None
    anchor_at: int | None = None
    period: int = 0
    next_at: int | None = None
    ends_at: int | None = None
    lapsed: int = 0
    taken: Taken | None = None
    worth_nanos: int | None = None
    worth_currency: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it buys nothing new any more."""
        return self.state in ("expired", "voided")

    def ended(self, now: int) -> bool:
        """Whether nothing may come back to it: lapsed, or used up before its time came."""
        return self.has_ended or (self.expires_at is not None and self.expires_at <= now)


class Hold(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Credits set apart for an action that is under way.

    `version` is that of the entry that made it. `unit_credits` and `price_version` are the price of its event when it
    was made, and `rate` that price where units do not all cost the same; its capture is priced by them.
    """

    id: str
    version: int
    status: HoldStatus
    label: str
    event: str | None
    model: str | None
    member: str | None
    quantity: int
    credits: int
    unit_credits: int | None
    price_version: int | None
    created_at: int
    expires_at: int
    closed_at: int | None = None
    metadata: dict[str, Any] | None = None
    rate: Rate | None = None

    @property
    def priced_by(self) -> Rate | None:
        """What its capture is priced by, None where no price was pinned."""
        if self.rate is None and self.unit_credits is not None:
            return Rate(self.unit_credits)
        return self.rate


class Member(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Somebody inside a team's wallet: a limit, what is held, and what was spent in the windows around `spent_at`."""

    member: str
    limit_credits: int | None = None
    limit_per: Per | None = None
    held: int = 0
    spent_day: int = 0
    spent_week: int = 0
    spent_month: int = 0
    spent_at: int = 0


class AutoTopUp(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a wallet fills itself, and how that goes: a balance below `threshold` charges the saved card for a pack.

    `monthly_limit` bounds what is charged by itself in a calendar month, in minor units of `currency`, the pack's;
    `charged` is that of the month around `charged_at`, in `charged_in`. `attempt` is the checkout that is under way, of
    which there is one at a time. After a failure none is made before `waits_until`; `stopped` says why none is made
    any more. Where its operator has ended it, it is not `enabled`; what is under way and what was charged stay known.
    """

    threshold: int
    pack: str
    monthly_limit: int
    stripe_customer: str | None = None
    payment_method: str | None = None
    attempt: str | None = None
    failures: int = 0
    waits_until: int | None = None
    stopped: str | None = None
    reason: str | None = None
    charged: int = 0
    charged_at: int = 0
    charged_in: str = ""
    currency: str = ""
    enabled: bool = True


class Wallet(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One customer's wallet. Version 0 is one that nobody has opened yet.

    `debt` is what was spent beyond the grants; `due_at` is a time before which time alone changes nothing, None where
    it never will. `alert` is what its operator was last told of its balance, since `alert_at`.
    """

    customer_id: str
    name: str | None = None
    balance: int = 0
    held: int = 0
    debt: int = 0
    open_holds: int = 0
    version: int = 0
    overdraft_limit: int = 0
    low_balance_threshold: int | None = None
    limit_credits: int | None = None
    limit_per: Per | None = None
    spent_day: int = 0
    spent_week: int = 0
    spent_month: int = 0
    spent_at: int = 0
    frozen: bool = False
    created_at: int = 0
    last_entry_at: int = 0
    due_at: int | None = None
    alert: Alert | None = None
    alert_at: int | None = None
    auto_top_up: AutoTopUp | None = None

    @property
    def available(self) -> int:
        """What may be spent now: balance − held + overdraft limit."""
        return self.balance - self.held + self.overdraft_limit

    @property
    def low(self) -> bool:
        """Whether the balance is below the wallet's own threshold."""
        return self.low_balance_threshold is not None and self.balance < self.low_balance_threshold


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the ledger, never changed: what happened, by how many credits, and how the wallet stood after it.

    `draws` lists what was taken from which grant, as `(grant id, credits)`, negative where it was given back;
    `cost_nanos` is the provider's cost in billionths of a US dollar; `detail` holds what the answer to the operation
    needs beside the columns.
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


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An automatic top-up to be made: what is bought of which pack. `amount` in minor units of `currency`."""

    id: str
    pack: str
    description: str
    credits: int
    bonus_credits: int
    bonus_days: int | None
    amount: int
    currency: str
    at: int


class State(msgspec.Struct, frozen=True, gc=False):
    """A wallet with what an operation may need of it.

    Args:
        wallet: its row.
        grants: those that may be spent, in burn-down order.
        others: by id, further ones: pending, lapsed with something kept for holds, the newest of a recurring one, and
            those that a reversal or a void names.
        holds: by id: every open one where the wallet is due, and those that an operation names.
        members: by name, those that an operation names; where the wallet is due, those too whom open holds are for.

    """

    wallet: Wallet
    grants: tuple[Grant, ...] = ()
    others: Mapping[str, Grant] = {}
    holds: Mapping[str, Hold] = {}
    members: Mapping[str, Member] = {}


class Applied(msgspec.Struct, frozen=True, gc=False):
    """What an operation did.

    Args:
        state: the wallet after it.
        entries: what was written, by version.
        own: the operation's own among them; None where it changed nothing.
        grants, holds, members: those that are new or changed.
        attempts: automatic top-ups to be made.
        notices: what is to be told.

    """

    state: State
    entries: tuple[Entry, ...]
    own: Entry | None
    grants: tuple[Grant, ...] = ()
    holds: tuple[Hold, ...] = ()
    members: tuple[Member, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    notices: tuple[Notice, ...] = ()


def burn_down_order(grant: Grant) -> tuple[int, int, bool, int]:
    """Sorts grants as they are spent: lowest priority number, soonest to expire, promotional before paid, oldest."""
    return (
        grant.priority,
        _NEVER if grant.expires_at is None else grant.expires_at,
        grant.category == "paid",
        grant.version,
    )
