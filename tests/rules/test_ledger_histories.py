"""The ledger's promises over random histories, against a model that is nothing clever."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.errors import ChargeError, InsufficientCredits
from app.rules.ledger import AddGrant, Adjust, Applied, Entry, Event, Operation, State, TopUp, Wallet, apply
from app.rules.pricing import Catalogue, Price

CATALOGUE = Catalogue(1, {"a": Price("a", 1, 3, "A", {"big": 11})})
AMOUNTS = st.integers(1, 40)


class Histories(RuleBasedStateMachine):
    """Drives `apply`; the model is a list of `[priority, category, age, credits]`."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State(Wallet(customer_id="u"))
        self.entries: list[Entry] = []
        self.model: list[list[int]] = []
        self.number = 0

    def next_id(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}_{self.number}"

    def take(self, operation: Operation, now: int = 0) -> Applied:
        applied = apply(self.state, operation, CATALOGUE, now)
        assert applied.state.wallet.version == self.state.wallet.version + len(applied.entries)
        self.state = applied.state
        self.entries += applied.entries
        return applied

    def model_spend(self, credits: int) -> bool:
        if credits > sum(grant[3] for grant in self.model):
            return False
        for grant in sorted(self.model):
            taken = min(credits, grant[3])
            grant[3] -= taken
            credits -= taken
        return True

    @rule(credits=AMOUNTS, priority=st.integers(0, 3), paid=st.booleans())
    def grant(self, credits: int, priority: int, paid: bool) -> None:
        category = "paid" if paid else "promotional"
        operation = AddGrant(
            customer_id="u", id=self.next_id("grant"), credits=credits, category=category, priority=priority
        )
        self.take(operation)
        self.model.append([priority, int(paid), self.number, credits])

    @rule(credits=AMOUNTS)
    def top_up(self, credits: int) -> None:
        self.take(
            TopUp(
                customer_id="u",
                id=self.next_id("top"),
                credits=credits,
                checkout_id="co_1",
                description="Top-up",
                amount=1,
                currency="usd",
            )
        )
        self.model.append([50, 1, self.number, credits])

    @rule(quantity=st.integers(1, 6), big=st.booleans(), now=st.integers(-5, 5))
    def event(self, quantity: int, big: bool, now: int) -> None:
        before = self.state
        operation = Event(
            customer_id="u",
            id=self.next_id("evt"),
            event="a",
            quantity=quantity,
            model="big" if big else None,
            metadata={},
        )
        covered = self.model_spend(quantity * (11 if big else 3))
        try:
            self.take(operation, now)
        except InsufficientCredits:
            assert not covered
            assert self.state is before
        else:
            assert covered

    @precondition(lambda self: self.state.wallet.version > 0)
    @rule(credits=st.integers(-40, 40).filter(bool))
    def adjust(self, credits: int) -> None:
        operation = Adjust(customer_id="u", id=self.next_id("adj"), credits=credits, reason="r")
        covered = credits > 0 or self.model_spend(-credits)
        try:
            self.take(operation)
        except ChargeError:
            assert not covered
        else:
            assert covered
            if credits > 0:
                self.model.append([50, 0, self.number, credits])

    @invariant()
    def the_balance_is_what_the_model_has_and_the_entries_sum_to(self) -> None:
        left = sum(grant[3] for grant in self.model)
        assert self.state.wallet.balance == left == sum(entry.credits for entry in self.entries)
        assert left == sum(grant.remaining for grant in self.state.grants)
        assert self.state.wallet.available >= 0

    @invariant()
    def versions_have_no_gaps_and_each_entry_tells_the_balance_after_it(self) -> None:
        balance = 0
        for version, entry in enumerate(self.entries, start=1):
            balance += entry.credits
            assert (entry.version, entry.balance) == (version, balance)

    @invariant()
    def times_only_rise(self) -> None:
        times = [entry.created_at for entry in self.entries]
        assert times == sorted(times)

    @invariant()
    def what_was_drawn_is_what_was_charged(self) -> None:
        for entry in self.entries:
            if entry.draws is not None:
                assert sum(credits for _, credits in entry.draws) == -entry.credits


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
