"""A wallet in tables of its own, with the model beside it: each operation goes to both and has to come out the same."""

from fractions import Fraction
from typing import Any

from rules.model import Model, Pledge, Refusals

from app.errors import ChargeError, HoldNotOpen, IdempotencyConflict
from app.rules.ledger import apply, replay
from app.rules.limits import spent_in
from app.rules.operations import (
    AddGrant,
    Adjust,
    Capture,
    ChangeSettings,
    Event,
    LimitMember,
    MakeHold,
    OpenWallet,
    Operation,
    Release,
    Reverse,
    Settle,
    TakeBack,
    TopUp,
    VoidGrant,
    bonus_id_of,
    grant_id_of,
)
from app.rules.pricing import Catalogue, Price
from app.rules.wallet import Applied, Entry, Grant, Hold, Member, State, Wallet, burn_down_order

PRICES = ({"a": 3, "a/big": 11, "free": 0}, {"a": 7, "a/big": 2, "free": 0})
CATALOGUES = tuple(
    Catalogue(
        number,
        {
            "a": Price("a", number, prices["a"], "A", {"big": prices["a/big"]}),
            "free": Price("free", number, 0, "Free", {}),
        },
    )
    for number, prices in enumerate(PRICES, start=1)
)
CHARGED = 1_000
"""What each purchase costs."""
DERIVED = (TopUp, Reverse, Capture, Release, VoidGrant)
"""Operations that find their first entry by their id."""


class Tables:
    """What is kept, and from it what the store would read for an operation; `told` by the model since the last look."""

    def __init__(self) -> None:
        super().__init__()
        self.wallet = Wallet(customer_id="u")
        self.grants: dict[str, Grant] = {}
        self.holds: dict[str, Hold] = {}
        self.members: dict[str, Member] = {}
        self.entries: list[Entry] = []
        self.answers: list[tuple[Operation, Entry]] = []
        self.bought: dict[str, tuple[int, int]] = {}
        """By checkout, what was refunded and disputed as of its last entry."""
        self.by_key: dict[str, Entry] = {}
        self.by_id: dict[str, Entry] = {}
        self.drawn: dict[str, int] = {}
        self.overdraft = 0
        self.number = 0
        self.entries_looked_at = 0
        self.clock = 0
        self.catalogue = 0
        self.model = Model(prices=PRICES[0])

    def id(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}_{self.number:04}"

    def key(self, keyed: bool = False) -> dict[str, Any]:
        return {"customer_id": "u"} | ({"key": self.id("key"), "request_hash": "h"} if keyed else {})

    @property
    def now(self) -> int:
        return max(self.clock, self.wallet.last_entry_at)

    # The store's part

    def read(self, operation: Operation) -> State:
        """What `State` promises of an operation, and no more."""
        named = {id for id, _ in operation.event.draws or ()} if isinstance(operation, Reverse) else set()
        named |= {operation.grant_id} if isinstance(operation, VoidGrant) else set()
        payers = isinstance(operation, Reverse | TakeBack)
        if isinstance(operation, TakeBack):
            named |= {grant_id_of(operation.checkout_id), bonus_id_of(operation.checkout_id)}
        due = self.wallet.due_at is not None and self.wallet.due_at <= self.now
        holds = {
            id: hold
            for id, hold in self.holds.items()
            if (due and hold.status == "open") or id == getattr(operation, "hold_id", None)
        }
        who = {hold.member for hold in holds.values()} | {getattr(operation, "member", None)}
        who |= {operation.event.member} if isinstance(operation, Reverse) else set()
        live, others = [], {}
        for grant in self.grants.values():
            if grant.state == "active" and grant.remaining:
                live.append(grant)
            elif grant.remaining or grant.next_at is not None or grant.id in named or (payers and grant.debt_paid):
                others[grant.id] = grant
        members = {name: member for name, member in self.members.items() if name in who}
        return State(self.wallet, tuple(sorted(live, key=burn_down_order)), others, holds, members)

    def apply(self, operation: Operation, welcome: int = 0) -> Applied:
        return apply(self.read(operation), operation, CATALOGUES[self.catalogue], self.clock, welcome)

    def write(self, applied: Applied) -> None:
        self.wallet = applied.state.wallet
        self.grants.update((grant.id, grant) for grant in applied.grants)
        self.holds.update((hold.id, hold) for hold in applied.holds)
        self.members.update((member.member, member) for member in applied.members)
        for entry in applied.entries:
            self.check_entry(entry)
            self.entries.append(entry)
            for grant_id, taken in entry.draws or ():
                self.drawn[grant_id] = self.drawn.get(grant_id, 0) + taken

    def check_entry(self, entry: Entry) -> None:
        """Each entry goes on from the one before it, by what it says it did."""
        before = self.entries[-1] if self.entries else None
        balance, held, available, at = (
            (before.balance, before.held, before.available, before.created_at) if before else (0, 0, 0, 0)
        )
        detail = entry.detail or {}
        if entry.kind == "hold":
            held += detail["hold"]["credits"]
        elif entry.kind in ("release", "hold_expiry"):
            held -= detail["hold"]["credits"]
        elif entry.kind == "event":
            held -= detail.get("held", 0)
        elif entry.kind == "settings":
            self.overdraft = detail.get("overdraft_limit", self.overdraft)
        assert entry.version == len(self.entries) + 1
        assert (entry.balance, entry.held) == (balance + entry.credits, held)
        assert entry.available == entry.balance - entry.held + self.overdraft
        assert entry.created_at == self.now >= at
        if entry.kind in ("event", "hold", "expiry", "void") or (entry.kind == "adjustment" and entry.credits < 0):
            assert entry.available >= min(0, available)

    def submit(self, operation: Operation, refusals: Refusals) -> bool:
        """Applies an operation that was not seen before; whether it passed, as it must where nothing refuses it."""
        applied, refused = None, None
        try:
            applied = self.apply(operation)
        except ChargeError as refusal:
            refused = type(refusal)
        if applied is None:
            assert refused in refusals, (refused, refusals)
            self.settle()  # the refused operation brought nothing, not even what was due
            return False
        assert not refusals
        self.write(applied)
        if applied.own is not None:
            self.answers.append((operation, applied.own))
            if operation.key is not None:
                self.by_key[operation.key] = applied.own
            if isinstance(operation, DERIVED):
                self.by_id[operation.id] = applied.own
        return True

    def seen(self, operation: Operation) -> Entry | None:
        """The first answer, where there is one."""
        entry = self.by_key.get(operation.key or "") or self.by_id.get(operation.id)
        return None if entry is None else replay(entry, operation)

    def settle(self) -> None:
        self.write(self.apply(Settle(customer_id="u", id=self.id("settle"))))

    # Operations, to both

    def begin(self) -> None:
        """Brings the model to this time."""
        self.check_told()
        self.model.advance(self.now)

    def check_told(self) -> None:
        """The entries since the last look are those that the model told."""
        self.model.let_needless_go()
        new = self.entries[self.entries_looked_at :]
        assert [(entry.kind, entry.credits, summed(entry.draws or ())) for entry in new] == self.model.told
        self.entries_looked_at = len(self.entries)
        self.model.told.clear()

    def open_wallet(self, welcome: int) -> None:
        self.write(self.apply(OpenWallet(customer_id="u", id=self.id("set")), welcome))
        self.model.now = self.clock
        if welcome:
            self.model.give(f"grant_{self.number:04}w", welcome, "grant", paid=False)
        self.model.told.append(("settings", 0, {}))

    def spend(
        self, what: str, *, quantity: int = 1, credits: int = 1, member: str | None = None, keyed: bool = False
    ) -> None:
        """An event at its price (`event/model`), or, as `other`, for so many credits."""
        name, _, model = what.partition("/")
        operation = Event(
            **self.key(keyed),
            id=self.id("evt"),
            event=name,
            quantity=quantity,
            model=model or None,
            credits=credits if what == "other" else None,
            member=member,
            metadata={},
        )
        cost = credits if what == "other" else self.model.price(name, quantity, model or None)
        if self.submit(operation, self.model.refusals_of_spending(cost, member)):
            assert cost is not None
            self.model.event(operation.id, cost, member)

    def set_apart(
        self,
        credits: int | None,
        *,
        event: str | None = None,
        quantity: int = 1,
        member: str | None = None,
        seconds: int = 86_400,
        keyed: bool = False,
    ) -> None:
        operation = MakeHold(
            **self.key(keyed),
            id=self.id("hold"),
            event=event,
            quantity=quantity,
            credits=credits,
            member=member,
            expires_in=seconds,
            metadata={},
        )
        unit = self.model.price(event, 1, None) if event else None
        amount = credits if credits is not None else (unit or 0) * quantity
        if self.submit(operation, self.model.refusals_of_spending(amount, member)):
            ends = self.now + seconds * 1000
            self.model.hold(Pledge(operation.id, amount, member=member, ends=ends, unit=unit))

    def charge(self, hold: Hold, credits: int | None, quantity: int | None, *, keyed: bool) -> None:
        """A capture, or another one of a hold that was captured."""
        id = hold.id.replace("hold", "evt")
        operation = Capture(
            **self.key(keyed),
            id=id,
            hold_id=hold.id,
            member=hold.member,
            credits=credits,
            quantity=quantity,
            metadata={},
        )
        if id in self.by_id:
            self.check_charged_before(operation)
            self.settle()
            return
        cost = self.model.price_of_capture(hold.id, credits, quantity)
        if self.submit(operation, self.model.refusals_of_capture(hold.id, cost)):
            assert cost is not None
            self.model.capture(hold.id, id, cost)

    def check_charged_before(self, operation: Capture) -> None:
        """Another capture of the same hold is told that it is captured, or that its key is used; the same replays."""
        first, refused = self.by_id[operation.id], None
        try:
            assert self.seen(operation) is first
        except (HoldNotOpen, IdempotencyConflict) as refusal:
            refused = type(refusal)
        another = first.request_hash != operation.request_hash
        used = operation.key is not None and operation.key == first.idempotency_key
        assert refused == ((IdempotencyConflict if used else HoldNotOpen) if another else None)

    def let_go(self, hold: Hold, *, keyed: bool) -> None:
        id = hold.id.replace("hold", "rel")
        operation = Release(**self.key(keyed), id=id, hold_id=hold.id, member=hold.member)
        if not self.check_done_before(operation) and self.submit(operation, self.model.refusals_of_release(hold.id)):
            self.model.release(hold.id)

    def check_done_before(self, operation: Operation) -> bool:
        """Whether its id has been seen; then the first answer is given again."""
        if (first := self.by_id.get(operation.id)) is None:
            return False
        assert self.seen(operation) is first
        self.settle()
        return True

    def give(
        self,
        credits: int,
        *,
        starts: int | None = None,
        ends: int | None = None,
        paid: bool = True,
        priority: int = 50,
        every: Any = None,
        all: bool = False,
        keyed: bool = False,
    ) -> None:
        operation = AddGrant(
            **self.key(keyed),
            id=self.id("grant"),
            credits=credits,
            category="paid" if paid else "promotional",
            priority=priority,
            effective_at=starts,
            expires_at=ends,
            every=every,
            rollover="all" if every and all else None,
            usd_nanos=credits * 7_000_000 if paid else None,
        )
        if self.submit(operation, self.model.refusals_of_grant(starts, ends)):
            self.model.grant(
                operation.id, credits, starts=starts, ends=ends, paid=paid, priority=priority, every=every, all=all
            )

    def take_back(self, grant_id: str, *, keyed: bool = False) -> None:
        operation = VoidGrant(**self.key(keyed), id=f"void_{grant_id}", grant_id=grant_id)
        if not self.check_done_before(operation) and self.submit(operation, self.model.refusals_of_void(grant_id)):
            self.model.void(grant_id)

    def adjust(self, credits: int, *, keyed: bool) -> None:
        operation = Adjust(**self.key(keyed), id=self.id("adj"), credits=credits, reason="r")
        if credits > 0:
            assert self.submit(operation, set())
            self.model.give(operation.id.replace("adj", "grant"), credits, "adjustment", paid=False)
        elif self.submit(operation, self.model.refusals_of_adjustment(credits)):
            self.model.adjust_down(-credits)

    def top_up(
        self, credits: int, *, bonus: int = 0, days: int | None = None, ends: int | None = None, keyed: bool
    ) -> None:
        id = self.id("top")
        operation = TopUp(
            **self.key(keyed),
            id=id,
            credits=credits,
            checkout_id=id.replace("top", "co"),
            description="Starter",
            amount=CHARGED,
            currency="eur",
            paid=CHARGED,
            bonus_credits=bonus,
            bonus_days=days,
            expires_at=ends,
        )
        assert self.submit(operation, set())
        grant_id = id.replace("top", "grant")
        self.model.give(grant_id, credits, "top_up", paid=True, ends=ends)
        if bonus:
            bonus_ends = None if days is None else self.now + days * 86_400_000
            self.model.give(f"{grant_id}b", bonus, "grant", paid=False, ends=bonus_ends)
        self.bought[operation.checkout_id] = (0, 0)

    def move_money(self, checkout_id: str, refunded: int, disputed: int) -> None:
        """Stripe says of a payment what was refunded and is disputed, of `CHARGED`."""
        grant_id = checkout_id.replace("co", "grant")
        taken = self.grants[grant_id].taken
        operation = TakeBack(
            customer_id="u",
            id=self.id("back"),
            checkout_id=checkout_id,
            description="Starter",
            charged=CHARGED,
            refunded=refunded,
            disputed=disputed,
            seen=taken.version if taken else 0,
        )
        assert self.submit(operation, set())
        before_refunded, before_disputed = self.bought[checkout_id]
        share = Fraction(min(refunded + disputed, CHARGED), CHARGED)
        before = Fraction(min(before_refunded + before_disputed, CHARGED), CHARGED)
        if share > before:
            kind = "refund" if refunded > before_refunded else "dispute"
        else:
            kind = "dispute_reversal" if disputed < before_disputed else "refund"
        is_said_anew = (refunded, disputed) != (before_refunded, before_disputed)
        bought = [id for id in (grant_id, f"{grant_id}b") if id in self.grants]
        if not self.model.move_money(operation.id, bought, share, kind) and is_said_anew:
            self.model.told.append(("settings", 0, {}))
        self.bought[checkout_id] = (refunded, disputed)

    def put_settings(self, **changes: Any) -> None:
        same = all(getattr(self.wallet, name) == value for name, value in changes.items())
        assert self.submit(ChangeSettings(**self.key(), id=self.id("set"), changes=changes), set())
        if not same:
            self.model.told.append(("settings", 0, {}))
        self.model.frozen = changes.get("frozen", self.model.frozen)
        self.model.overdraft = changes.get("overdraft_limit", self.model.overdraft)
        if "limit_credits" in changes:
            self.model.limit = (changes["limit_credits"], changes["limit_per"])

    def limit_member(self, member: str, credits: int | None, per: Any) -> None:
        known = self.members.get(member)
        operation = LimitMember(**self.key(), id=self.id("set"), member=member, limit_credits=credits, limit_per=per)
        assert self.submit(operation, set())
        self.model.limits_of_members[member] = (credits, per)
        if known is None or (known.limit_credits, known.limit_per) != (credits, per):
            self.model.told.append(("settings", 0, {}))

    def give_back(self, event: Entry, *, keyed: bool) -> None:
        operation = Reverse(**self.key(keyed), id=event.id.replace("evt", "rev"), event=event)
        if not self.check_done_before(operation):
            assert self.submit(operation, set())
            self.model.reverse(event.id)

    # What holds at any time

    def check(self) -> None:
        """The wallet is the model's, and what is kept of it adds up."""
        self.check_told()
        self.check_wallet()
        self.check_grants()
        self.check_windows()

    def check_wallet(self) -> None:
        model, wallet = self.model, self.wallet
        assert (wallet.balance, wallet.debt, wallet.held) == (model.balance, model.debt, model.held)
        assert wallet.available == model.available
        assert wallet.open_holds == sum(pledge.status == "open" for pledge in model.pledges.values())
        assert {id: (hold.status, hold.credits) for id, hold in self.holds.items()} == {
            id: (pledge.status, pledge.credits) for id, pledge in model.pledges.items()
        }
        # Each entry's balance is the one before it and its own credits, so the last is the sum of them all.
        assert (wallet.version, wallet.balance) == (len(self.entries), self.entries[-1].balance)
        if (next_change := model.changes_next()) is not None:
            assert wallet.due_at is not None
            assert wallet.due_at <= next_change

    def check_grants(self) -> None:
        assert {
            grant.id: (
                grant.state,
                grant.credits,
                grant.remaining,
                grant.category == "paid",
                grant.priority,
                grant.effective_at,
                grant.expires_at,
                grant.debt_paid,
                grant.next_at,
            )
            for grant in self.grants.values()
            if grant.remaining or grant.next_at is not None
        } == {
            lot.id: (
                lot.state,
                lot.credits,
                lot.left,
                lot.paid,
                lot.priority,
                lot.starts,
                lot.ends,
                lot.to_debt,
                lot.comes_again,
            )
            for lot in self.model.lots.values()
            if lot.left or lot.comes_again is not None
        }
        for id, grant in self.grants.items():
            assert grant.credits - self.drawn.get(id, 0) == grant.remaining >= 0
        effective = sum(grant.remaining for grant in self.grants.values() if grant.state != "pending")
        assert self.wallet.balance == effective - self.wallet.debt

    def check_windows(self) -> None:
        """What was spent in each window is what the events say that are not reversed."""
        model = self.model
        assert spent_in(self.wallet, model.now) == tuple(model.spent_in(per) for per in ("day", "week", "month"))
        for name, member in self.members.items():
            assert member.held == model.held_of(name)
            spent = tuple(model.spent_in(per, name) for per in ("day", "week", "month"))
            assert spent_in(member, model.now) == spent


def summed(draws: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """Draws by grant, without those that came to nothing."""
    by_grant: dict[str, int] = {}
    for id, taken in draws:
        by_grant[id] = by_grant.get(id, 0) + taken
    return {id: taken for id, taken in by_grant.items() if taken}
