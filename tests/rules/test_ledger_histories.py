"""The ledger's promises over random histories, each step of them held against a model that is nothing clever."""

import os
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace
from rules.model import DAY
from rules.steps import STEPS
from rules.tables import DERIVED, PRICES, Tables

from app.errors import IdempotencyConflict
from app.rules.operations import Capture
from app.rules.wallet import Hold

HISTORIES = int(os.environ.get("CHARGLY_TESTS_HISTORIES", "520"))
STEPS_OF_EACH = 50

HOUR = 3_600_000
STARTS_AT = (
    1_706_695_200_000,  # 2024-01-31T10:00Z, a Wednesday of a leap year
    1_735_603_199_000,  # 2024-12-30T23:59:59Z, a Monday whose ISO week belongs to the next year
    1_740_787_199_999,  # the last millisecond of February 2025
)
OPENED = ("empty", "overdrawn", "used up", "limited", "held", "lapsed under a hold", "voided under holds")

PICKS = st.integers(0, 10_000)
KEYED = st.booleans()
MEMBER = st.sampled_from((None, None, "alice", "bob"))
AMOUNTS = st.integers(1, 40) | st.sampled_from(("most", "more"))
"""Credits; or all that the wallet and its limits let pass, or one more."""
PAUSES = st.sampled_from(
    (0,) * 40 + (1, 60_000, HOUR, HOUR, HOUR, DAY, 8 * DAY, 32 * DAY, *("due",) * 5, "almost due", -HOUR, -DAY)
)
"""How long nothing is asked of the wallet before an operation: by the clock, which may also go back, or until the next
time that changes something."""
MONEY = st.sampled_from((0, 0, 0, 1, 250, 333, 500, 1_000))
"""What was refunded, or is disputed, of a payment of 1,000."""
LIMITS = st.tuples(st.sampled_from((20, 60, 200, 0)), st.sampled_from(("day", "week", "month"))) | st.just((None, None))


class Histories(Tables, RuleBasedStateMachine):
    """Draws what is done to a wallet, and when."""

    def pause(self, how: int | str) -> None:
        if isinstance(how, int):
            self.clock = max(self.clock + how, STARTS_AT[0])
        elif (due := self.model.changes_next()) is not None:
            self.clock = due if how == "due" else due - 1
        self.begin()

    def amount(self, how: int | str, member: str | None) -> int:
        if isinstance(how, int):
            return how
        return max(1, self.model.most(member) + (how == "more"))

    @initialize(start=st.sampled_from(STARTS_AT), welcome=st.sampled_from((0, 100)), how=st.sampled_from(OPENED))
    def open(self, start: int, welcome: int, how: str) -> None:
        """A new wallet, or one in which more can go wrong."""
        self.clock = start
        self.open_wallet(welcome)
        if how == "overdrawn":
            self.put_settings(overdraft_limit=60)
            self.give(10)
            self.give(20)
            self.spend("other", credits=20 + welcome)
            self.spend("other", credits=45)
        elif how == "used up":
            self.give(30, ends=start + HOUR, priority=0)
            self.spend("other", credits=30)
        elif how == "limited":
            self.give(100)
            self.put_settings(limit_credits=60, limit_per="day")
            self.set_apart(None, event="a", quantity=5, member="alice")
        elif how != "empty":
            self.give(60, ends=start + HOUR, priority=0)
            grant_id = next(reversed(self.grants))
            self.set_apart(40 + welcome)
            self.set_apart(15, seconds=900)
            if how == "voided under holds":
                self.take_back(grant_id)
            elif how == "lapsed under a hold":
                self.pause(HOUR)
                self.give(20)

    @rule(pause=PAUSES)
    def nothing(self, pause: int | str) -> None:
        """A wallet that nobody touches is settled."""
        self.pause(pause)
        self.settle()

    @rule(
        what=st.sampled_from(("a", "a/big", "a", "free", "unknown", *("other",) * 5)),
        quantity=st.integers(1, 4),
        credits=AMOUNTS,
        member=MEMBER,
        keyed=KEYED,
        pause=PAUSES,
    )
    def event(self, *, credits: int | str, member: str | None, pause: int | str, **fields: Any) -> None:
        self.pause(pause)
        self.spend(credits=self.amount(credits, member), member=member, **fields)

    @rule(
        event=st.sampled_from((None, "a")),
        credits=st.none() | AMOUNTS,
        quantity=st.integers(1, 4),
        member=MEMBER,
        seconds=st.sampled_from((1, 900, 86_400, 86_400)),
        keyed=KEYED,
        pause=PAUSES,
    )
    def hold(
        self, *, event: str | None, credits: int | str | None, member: str | None, pause: int | str, **fields: Any
    ) -> None:
        self.pause(pause)
        amount = self.amount(credits or 1, member) if credits or event is None else None
        self.set_apart(amount, event=event, member=member, **fields)

    @precondition(lambda self: self.model.held)
    @rule(
        pick=PICKS,
        how=st.sampled_from(("all", "all", "credits", "part", "beyond", "beyond", "units")),
        amount=AMOUNTS,
        keyed=KEYED,
        pause=PAUSES,
    )
    def capture(self, *, pick: int, how: str, amount: int | str, keyed: bool, pause: int | str) -> None:
        self.pause(pause)
        hold = self.pick_hold(pick)
        credits = {"credits": pick % 40 + 1, "part": 1 + pick % hold.credits}.get(how)
        if how == "beyond":
            credits = hold.credits + self.amount(amount, hold.member)
        self.charge(hold, credits, 1 + pick % 6 if how == "units" else None, keyed=keyed)

    @precondition(lambda self: self.model.held)
    @rule(pick=PICKS, keyed=KEYED, pause=PAUSES)
    def release(self, pick: int, keyed: bool, pause: int | str) -> None:
        self.pause(pause)
        self.let_go(self.pick_hold(pick), keyed=keyed)

    def pick_hold(self, pick: int) -> Hold:
        """One that is open, mostly."""
        found = [hold for hold in self.holds.values() if hold.status == "open"] if pick % 6 else []
        found = found or list(self.holds.values())
        return found[pick % len(found)]

    @rule(
        credits=st.integers(10, 90),
        paid=st.booleans(),
        priority=st.sampled_from((50, 50, 0, 255)),
        starts=st.sampled_from((None,) * 7 + (-DAY, 1, HOUR, 3 * DAY)),
        ends=st.sampled_from((None, None, 60_000, HOUR, HOUR, 2 * DAY, 40 * DAY, -1)),
        every=st.sampled_from((None,) * 8 + ("day", "week", "month", "month")),
        all=st.sampled_from((False, False, True)),
        keyed=KEYED,
        pause=PAUSES,
    )
    def grant(self, *, starts: int | None, ends: int | None, pause: int | str, **fields: Any) -> None:
        self.pause(pause)
        starts = None if starts is None else self.now + starts
        ends = None if ends is None else self.now + ends
        self.give(starts=starts, ends=ends, **fields)

    @precondition(lambda self: self.grants)
    @rule(pick=PICKS, keyed=KEYED, pause=PAUSES)
    def void(self, pick: int, keyed: bool, pause: int | str) -> None:
        self.pause(pause)
        grants = [grant.id for grant in self.grants.values() if grant.remaining or not pick % 5] or list(self.grants)
        self.take_back(grants[pick % len(grants)], keyed=keyed)

    @rule(how=st.sampled_from(("up", "down", "top_up")), credits=st.integers(1, 12), keyed=KEYED, pause=PAUSES)
    def adjust_or_top_up(self, how: str, credits: int, keyed: bool, pause: int | str) -> None:
        self.pause(pause)
        if how == "top_up":
            self.top_up(credits, keyed=keyed)
        else:
            self.adjust(credits if how == "up" else -credits, keyed=keyed)

    @rule(
        credits=st.integers(1, 60),
        bonus=st.sampled_from((0, 0, 1, 30)),
        days=st.sampled_from((None, 1, 40)),
        lasts=st.sampled_from((None, None, HOUR, 2 * DAY)),
        keyed=KEYED,
        pause=PAUSES,
    )
    def buy(self, *, lasts: int | None, pause: int | str, **fields: Any) -> None:
        self.pause(pause)
        self.top_up(ends=None if lasts is None else self.now + lasts, **fields)

    @precondition(lambda self: self.bought)
    @rule(pick=PICKS, refunded=MONEY, disputed=MONEY, pause=PAUSES)
    def move_money_of(self, pick: int, refunded: int, disputed: int, pause: int | str) -> None:
        """A refund, a dispute, or what undoes them: whatever comes, the ledger goes where the money is."""
        self.pause(pause)
        self.move_money(list(self.bought)[pick % len(self.bought)], refunded, disputed)

    @rule(frozen=st.booleans(), overdraft=st.sampled_from((None, 0, 10, 60)))
    def change_settings(self, frozen: bool, overdraft: int | None) -> None:
        self.begin()
        self.put_settings(frozen=frozen, **({} if overdraft is None else {"overdraft_limit": overdraft}))

    @rule(limit=LIMITS, member=MEMBER)
    def limit(self, limit: tuple[int | None, str | None], member: str | None) -> None:
        """What the wallet, or a member inside of it, may spend; it thaws a frozen wallet too."""
        self.begin()
        credits, per = limit
        if member is None:
            self.put_settings(frozen=False, limit_credits=credits, limit_per=per)
        else:
            self.limit_member(member, credits, per)

    @precondition(lambda self: self.model.spent)
    @rule(pick=PICKS, keyed=KEYED, pause=PAUSES)
    def reverse(self, pick: int, keyed: bool, pause: int | str) -> None:
        self.pause(pause)
        events = [entry for entry in self.entries if entry.kind == "event"]
        self.give_back(events[pick % len(events)], keyed=keyed)

    @rule(catalogue=st.sampled_from((0, 1)))
    def change_prices(self, catalogue: int) -> None:
        self.catalogue = catalogue
        self.model.prices = PRICES[catalogue]

    @precondition(lambda self: self.answers)
    @rule(pick=PICKS)
    def again(self, pick: int) -> None:
        """The same request gives the first answer, and another one with its key, or of its hold, does not."""
        operation, first = self.answers[pick % len(self.answers)]
        if isinstance(operation, DERIVED):
            assert self.seen(operation) is first
            if isinstance(operation, Capture):
                self.check_charged_before(replace(operation, request_hash="other"))
        elif operation.key is not None:
            operation = replace(operation, id=self.id("again"))
            assert self.seen(operation) is first
            conflict = False
            try:
                self.seen(replace(operation, request_hash="other"))
            except IdempotencyConflict:
                conflict = True
            assert conflict

    @invariant()
    def it_is_as_the_model_says_and_adds_up(self) -> None:
        STEPS.taken += 1
        self.check()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=HISTORIES, stateful_step_count=STEPS_OF_EACH, deadline=None, print_blob=True
)
