"""Random purchases, of which Stripe's word is shuffled, doubled and lost: the wallet ends where the money is."""

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from payments.hurried import served
from payments.stripe_stand_in import Call, Fault, Faults, StripeStandIn, deliver
from payments.waiting import eventually
from serving import ServerProcess, balance, charge, grant

HISTORIES = int(os.environ.get("CHARGLY_TESTS_PURCHASES", "12"))
STEPS = 25
HURRY = {
    "stripe_ask_seconds_first": 0,
    "stripe_asks_seconds_between": 0.05,
    "stripe_sweep_overlap_seconds": 0,  # others have bought at the same stand-in
    "stripe_sweep_seconds_between": 0.05,
    "stripe_reread_seconds_min": 0.0,
    "stripe_retries_max": 0,
}
BOUGHT = 500
PICKS = st.integers(0, 1_000)
PARTS = st.sampled_from((1, 99, 250, 333, 500, 1_000))


@pytest.fixture(scope="session")
def server(
    new_database: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, shared_stripe: StripeStandIn
) -> Iterator[ServerProcess]:
    """A server that asks Stripe soon, once it gets an answer."""
    yield from served(
        new_database,
        tmp_path_factory,
        shared_stripe,
        HURRY,
        CHARGLY_PROMOTION_CODES="true",
        CHARGLY_AUTOMATIC_TAX="true",
    )


@dataclass
class Purchase:
    """What Stripe knows of one: the money that came, and what became of it."""

    checkout: str
    session: str
    charged: int = 0
    is_paid: bool = False
    refunds: dict[str, int] = field(default_factory=dict)
    disputes: dict[str, int] = field(default_factory=dict)
    """Those for which money is held or lost."""
    inquiries: set[str] = field(default_factory=set)
    was_disputed: bool = False
    """A charge is disputed once."""

    @property
    def kept(self) -> int:
        """The credits that its money still pays for."""
        if not self.is_paid:
            return 0
        gone = min(self.charged, sum(self.refunds.values()) + sum(self.disputes.values()))
        return BOUGHT - (BOUGHT * gone // self.charged if self.charged else 0)

    @property
    def status(self) -> str:
        """What the checkout is called in the end."""
        if sum(self.disputes.values()):
            return "disputed"
        refunded = sum(self.refunds.values())
        return "paid" if not refunded else "refunded" if refunded >= self.charged else "partially_refunded"


class Unheard(Faults):
    """Stripe tells nothing by itself: neither its list of events nor a session."""

    def before(self, call: Call) -> Fault:
        asked = call.path == "/v1/events" or (call.method == "GET" and call.path.startswith("/v1/checkout/"))
        return (500, b'{"error": {"type": "api_error"}}') if asked else None


class Purchases(RuleBasedStateMachine):
    """One customer, who buys, spends, and gets money back in every way, while Stripe's word arrives as it likes."""

    def __init__(self, server: ServerProcess, api: httpx.Client, stripe: StripeStandIn) -> None:
        super().__init__()
        self.server, self.api, self.stripe = server, api, stripe
        self.customer = f"user_{secrets.token_hex(6)}"
        self.purchases: list[Purchase] = []
        self.spent = 0
        stripe.faults = Unheard()
        stripe.told.clear()
        grant(api, self.customer, 100)

    def pick(self, pick: int, which: Callable[[Purchase], Any]) -> Purchase | None:
        found = [one for one in self.purchases if which(one)]
        return found[pick % len(found)] if found else None

    @rule(how=st.sampled_from(("paid", "paid", "paid", "cheaper", "taxed", "free", "later", "left")))
    def buy(self, how: str) -> None:
        body = {"customer_id": self.customer, "pack": "chargly_500"}
        checkout = self.api.post("/v1/checkouts", json=body).json()
        made = Purchase(checkout["id"], self.stripe.session_of(checkout["id"])["id"])
        self.purchases.append(made)
        account = self.stripe.account
        if how == "later":
            account.pay_later(made.session)
        elif how == "free":
            account.pay_nothing(made.session)
            made.is_paid = True
        elif how != "left":
            more = {"cheaper": {"discount": 337}, "taxed": {"tax": 190}}.get(how, {})
            made.charged = account.pay(made.session, **more)["amount_total"]
            made.is_paid = True

    @precondition(lambda self: self.purchases)
    @rule(pick=PICKS, arrives=st.booleans())
    def the_bank_pays(self, pick: int, arrives: bool) -> None:
        waiting = self.pick(
            pick,
            lambda one: (
                self.stripe.session_of(one.checkout)["payment_status"] == "unpaid"
                and self.stripe.session_of(one.checkout)["status"] == "complete"
                and one.charged == 0
            ),
        )
        if waiting is None:
            return
        if arrives:
            self.stripe.account.money_arrives(waiting.session)
            waiting.charged, waiting.is_paid = 1_000, True
        else:
            self.stripe.account.money_fails(waiting.session)
            waiting.charged = -1

    @precondition(lambda self: self.purchases)
    @rule(pick=PICKS, part=PARTS, pending=st.booleans())
    def refund(self, pick: int, part: int, pending: bool) -> None:
        one = self.pick(pick, lambda one: one.is_paid and one.charged and not one.disputes)
        if one is None or (left := one.charged - sum(one.refunds.values())) <= 0:
            return
        made = self.stripe.account.refund(one.session, min(part, left), pending=pending)
        one.refunds[made["id"]] = made["amount"]

    @precondition(lambda self: self.purchases)
    @rule(pick=PICKS, part=PARTS)
    def refund_from_our_side(self, pick: int, part: int) -> None:
        """What has not landed for us is not refunded by us."""
        one = self.pick(pick, lambda one: one.is_paid and one.charged and not one.disputes)
        if one is None or (left := one.charged - sum(one.refunds.values())) <= 0:
            return
        answer = self.api.post(f"/v1/checkouts/{one.checkout}/refund", json={"amount": min(part, left)})
        assert answer.status_code in (200, 409), answer.text
        if answer.status_code == 200:
            one.refunds[f"ours_{len(one.refunds)}"] = min(part, left)

    @precondition(lambda self: any(one.refunds for one in self.purchases))
    @rule(pick=PICKS)
    def a_refund_fails(self, pick: int) -> None:
        one = self.pick(pick, lambda one: [id for id in one.refunds if id.startswith("re_")])
        if one is not None:
            refunds = [id for id in one.refunds if id.startswith("re_")]
            failed = refunds[pick % len(refunds)]
            self.stripe.account.fail_refund(failed)
            del one.refunds[failed]

    @precondition(lambda self: self.purchases)
    @rule(pick=PICKS, part=PARTS, inquiry=st.booleans())
    def dispute(self, pick: int, part: int, inquiry: bool) -> None:
        one = self.pick(pick, lambda one: one.is_paid and one.charged and not one.was_disputed)
        if one is None:
            return
        one.was_disputed = True
        made = self.stripe.account.open_dispute(one.session, min(part, one.charged), inquiry=inquiry)
        if inquiry:
            one.inquiries.add(made["id"])
        else:
            one.disputes[made["id"]] = made["amount"]

    @precondition(lambda self: any(one.disputes or one.inquiries for one in self.purchases))
    @rule(pick=PICKS, how=st.sampled_from(("win", "lose", "escalate")))
    def the_bank_decides(self, pick: int, how: str) -> None:
        account = self.stripe.account
        open_ones = [
            (one, id)
            for one in self.purchases
            for id in (*one.disputes, *one.inquiries)
            if account.live(id)["status"] in ("needs_response", "warning_needs_response")
        ]
        if not open_ones:
            return
        one, id = open_ones[pick % len(open_ones)]
        if id in one.inquiries:
            one.inquiries.discard(id)
            if how == "escalate":
                account.escalate(id)
                one.disputes[id] = account.live(id)["amount"]
            else:
                account.win(id)
        elif how == "win":
            account.win(id)
            del one.disputes[id]
        else:
            account.lose(id)

    @rule(credits=st.integers(1, 400))
    def spend(self, credits: int) -> None:
        answer = charge(self.api, self.customer, credits=credits)
        assert answer.status_code in (201, 402)
        self.spent += credits if answer.status_code == 201 else 0

    @precondition(lambda self: self.stripe.told)
    @rule(pick=PICKS, twice=st.booleans(), lost=st.booleans())
    def one_arrives(self, pick: int, twice: bool, lost: bool) -> None:
        """Any of what was not told yet: in any order, twice, or never."""
        told = self.stripe.told.pop(pick % len(self.stripe.told))
        if not lost:
            for _ in range(1 + twice):
                assert deliver(self.server, told).status_code in (200, 502)  # what is not known is to be sent again

    def as_it_is(self, paid: dict[str, str]) -> tuple[int, dict[str, str]]:
        """The balance, and how the checkouts that were paid stand."""
        page = self.api.get("/v1/checkouts", params={"customer_id": self.customer, "limit": 100}).json()["checkouts"]
        return balance(self.api, self.customer), {one["id"]: one["status"] for one in page if one["id"] in paid}

    def teardown(self) -> None:
        """Stripe can be asked again, and the wallet comes to where the money is."""
        self.stripe.faults = Faults()
        paid = {one.checkout: one.status for one in self.purchases if one.is_paid}
        wanted = 100 - self.spent + sum(one.kept for one in self.purchases), paid
        try:
            eventually(lambda: self.as_it_is(paid) == wanted)
        except AssertionError:
            raise AssertionError((self.customer, self.as_it_is(paid), wanted, self.purchases)) from None
        assert self.api.get(f"/v1/verify/{self.customer}").json()["ok"] is True


def test_the_wallet_ends_where_the_money_is(server: ServerProcess, api: httpx.Client, stripe: StripeStandIn) -> None:
    run_state_machine_as_test(
        lambda: Purchases(server, api, stripe),
        settings=settings(
            max_examples=HISTORIES,
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink one would take minutes
        ),
    )
