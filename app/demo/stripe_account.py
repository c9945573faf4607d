"""One Stripe account in memory: what it answers to a server, and what its buyers and their banks do.

It speaks no HTTP: the demo's sandbox and the tests' stand-in put a server in front of it.
"""

import copy
import functools
import itertools
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from app.demo.stripe_calls import Answer, Calls, FindUnknown
from app.demo.stripe_cards import CARDS, DECLINED_CARD, GOOD_CARD, Card
from app.demo.stripe_customers import Customers
from app.demo.stripe_invoices import InvoiceLine, Invoices
from app.demo.stripe_objects import StripeObject
from app.demo.stripe_parameters import Form, unknown_parameter
from app.demo.stripe_past import Past
from app.demo.stripe_payments import Payments
from app.demo.stripe_record import Record
from app.demo.stripe_refusal import StripeRefusal
from app.demo.stripe_sessions import Sessions
from app.store.checkouts import Bought

BUYER: Final = "ada@example.com"
_KEPT_MAX: Final = 10_000
P = ParamSpec("P")
R = TypeVar("R")


def _one_at_a_time(
    method: Callable[Concatenate["StripeAccount", P], R],
) -> Callable[Concatenate["StripeAccount", P], R]:
    """Threads take turns, and get copies, which nobody changes behind their backs."""

    @functools.wraps(method)
    def turn(self: "StripeAccount", /, *args: P.args, **named: P.kwargs) -> R:
        with self.lock:
            return copy.deepcopy(method(self, *args, **named))

    return turn


class StripeAccount:
    """A Stripe account. Amounts are in minor units, times in seconds since 1970.

    Whatever a buyer, a bank or the dashboard does raises StripeRefusal where Stripe would not let it be done.

    Args:
        page_url: where the page of a session is, by its id.
        told: is handed a copy of every event as it is made.
        clock: what time it is.
        unknown: names the first parameter of a call that Stripe does not know.
        kept_max: how many objects of each kind, and answers to idempotency keys, are kept.

    """

    def __init__(
        self,
        page_url: Callable[[str], str],
        *,
        told: Callable[[StripeObject], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        unknown: FindUnknown = unknown_parameter,
        kept_max: int = _KEPT_MAX,
    ) -> None:
        self.lock = threading.RLock()
        self._record = Record(clock, told, kept_max)
        self._payments = Payments(self._record, kept_max)
        self._customers = Customers(self._record)
        self._invoices = Invoices(self._record, self._payments)
        self._sessions = Sessions(self._record, self._payments, self._customers, page_url, kept_max)
        self._past = Past(self._record, self._payments, self._customers, self._invoices, self._sessions)
        self._calls = Calls(self._record, self._payments, self._customers, self._sessions, unknown, kept_max)

    @_one_at_a_time
    def call(self, method: str, path: str, form: Form, idempotency_key: str | None = None) -> Answer:
        """Answers one call of a server; `form` is its body or query as `unflatten` gives it."""
        return self._calls.call(method, path, form, idempotency_key)

    @_one_at_a_time
    def learn(self, bought: Sequence[Bought]) -> None:
        """Learns the payments of purchases that the ledger knows, oldest first; nobody is told of them."""
        for one in bought:
            self._past.learn(one, BUYER)

    # What can be seen.

    @_one_at_a_time
    def all(self, kind: str, /, **fields: Any) -> list[StripeObject]:
        """The objects of a kind, `checkout.session` or `charge`, with these values, newest first."""
        self._sessions.expire_due()
        return self._record.of(kind, **fields)

    @_one_at_a_time
    def one(self, id: str) -> StripeObject | None:
        """An object, whatever its kind."""
        self._sessions.expire_due()
        return self._record.any(id)

    @_one_at_a_time
    def charge_of(self, id: str) -> StripeObject:
        """The newest charge of a session, a payment, an invoice or a dispute."""
        return self._charge(id)

    @_one_at_a_time
    def events(self, *kinds: str) -> list[StripeObject]:
        """The events of these types, or all, in the order in which they were made."""
        made = reversed(self._record.of("event"))
        return [event for event in made if not kinds or event["type"] in kinds]

    @_one_at_a_time
    def events_since(self, last_id: str | None) -> list[StripeObject]:
        """The events that were made after one, or all that are kept where that one is not."""
        newer = itertools.takewhile(lambda event: event["id"] != last_id, self._record.of("event"))
        return list(newer)[::-1]

    @property
    def last_event(self) -> str | None:
        """The id of the newest event."""
        with self.lock:
            return next((event["id"] for event in self._record.of("event")), None)

    @_one_at_a_time
    def description(self, session_id: str) -> str:
        """What is bought in a session."""
        return self._record.description(session_id)

    @_one_at_a_time
    def keeps_card(self, session_id: str) -> bool:
        """Whether a session keeps its buyer's card for later."""
        return self._sessions.keeps_card(session_id)

    def live(self, id: str) -> StripeObject:
        """An object itself: what is changed in it is changed at Stripe, without an event."""
        with self.lock:
            found = self._record.any(id)
            assert found is not None, id
            return found

    # What a buyer does.

    @_one_at_a_time
    def pay(
        self, session_id: str, card: str = GOOD_CARD, *, discount: int = 0, tax: int = 0, email: str = BUYER
    ) -> StripeObject:
        """Pays a session with a test card; a promotion code's `discount` and `tax` change its total.

        A card that is declined raises StripeRefusal and leaves the session open.
        """
        session = self._sessions.open(session_id)
        paying = _card(card)
        self._sessions.price(session, discount, tax)
        self._sessions.pay(session, paying, email)
        return session

    @_one_at_a_time
    def pay_nothing(self, session_id: str, *, email: str = BUYER) -> StripeObject:
        """Completes a session with a promotion code of 100 %: there is no payment."""
        session = self._sessions.open(session_id)
        self._sessions.price(session, session["amount_subtotal"], 0)
        self._sessions.pay(session, None, email)
        return session

    @_one_at_a_time
    def decline(self, session_id: str, card: str = DECLINED_CARD) -> StripeObject:
        """Tries to pay a session with a card that is declined; it stays open."""
        session = self._sessions.open(session_id)
        paying = _card(card)
        assert paying.at_checkout is not None, card
        try:
            self._sessions.pay(session, paying, BUYER)
        except StripeRefusal:
            return session
        raise AssertionError(card)

    @_one_at_a_time
    def pay_later(self, session_id: str, *, tax: int = 0, email: str = BUYER) -> StripeObject:
        """Pays a session by a bank debit: it is complete and unpaid until the money arrives."""
        session = self._sessions.open(session_id)
        self._sessions.price(session, 0, tax)
        self._sessions.pay(session, None, email)
        return session

    @_one_at_a_time
    def expire(self, session_id: str) -> StripeObject:
        """Ends an open session."""
        return self._sessions.expire_now({}, session_id)

    # What banks do.

    @_one_at_a_time
    def money_arrives(self, id: str) -> StripeObject:
        """The money of a session or a payment that was paid by a bank debit arrives."""
        return self._sessions.settle(id, arrives=True)

    @_one_at_a_time
    def money_fails(self, id: str) -> StripeObject:
        """The money of a session or a payment that was paid by a bank debit does not come."""
        return self._sessions.settle(id, arrives=False)

    @_one_at_a_time
    def open_dispute(
        self,
        of: str,
        amount: int | None = None,
        *,
        currency: str | None = None,
        inquiry: bool = False,
        reason: str = "fraudulent",
    ) -> StripeObject:
        """The buyer of a charge, or of what has one, disputes it; an inquiry takes no money yet.

        Without an amount it is all that was charged. A bank may count in a currency of its own.
        """
        return self._payments.dispute(self._charge(of), amount, currency=currency, inquiry=inquiry, reason=reason)

    @_one_at_a_time
    def escalate(self, dispute_id: str) -> StripeObject:
        """An inquiry becomes a dispute."""
        return self._after(self._payments.escalate, "dispute", dispute_id)

    @_one_at_a_time
    def win(self, dispute_id: str) -> StripeObject:
        """The bank decides a dispute for us; an inquiry is closed."""
        return self._after(self._payments.win, "dispute", dispute_id)

    @_one_at_a_time
    def lose(self, dispute_id: str) -> StripeObject:
        """The bank decides a dispute for the buyer."""
        return self._after(self._payments.lose, "dispute", dispute_id)

    @_one_at_a_time
    def settle_refund(self, refund_id: str) -> StripeObject:
        """A pending refund is done."""
        return self._after(self._payments.settle, "refund", refund_id)

    @_one_at_a_time
    def fail_refund(self, refund_id: str) -> StripeObject:
        """A refund comes back from the bank."""
        return self._after(self._payments.fail_refund, "refund", refund_id)

    @_one_at_a_time
    def card_becomes(self, method_id: str, card: str) -> None:
        """A saved card behaves as another from now on."""
        self._record.get("payment_method", method_id)
        self._payments.cards[method_id] = _card(card)

    # What is done in Stripe's dashboard, or by Stripe itself.

    @_one_at_a_time
    def refund(self, of: str, amount: int | None = None, *, pending: bool = False) -> StripeObject:
        """Refunds a charge, or what has one: all that is left, unless an amount is given."""
        return self._payments.refund(self._charge(of), amount, pending=pending)

    @_one_at_a_time
    def saved_card(self, customer_id: str | None = None, card: str = GOOD_CARD, *, email: str = BUYER) -> StripeObject:
        """A payment method attached to a customer, who is made where none is named."""
        owner = self._customers.named(customer_id) if customer_id else self._customers.add(email=email)
        return self._payments.method(_card(card), owner["email"], owner["id"])

    @_one_at_a_time
    def saved_bank(self, customer_id: str | None = None, *, email: str = BUYER) -> StripeObject:
        """A bank account attached to a customer, likewise. A payment from it is processing until its money arrives."""
        owner = self._customers.named(customer_id) if customer_id else self._customers.add(email=email)
        return self._payments.method(None, owner["email"], owner["id"])

    @_one_at_a_time
    def detach(self, method_id: str) -> StripeObject:
        """Takes a saved card from its customer; it cannot be charged any more."""
        method = self._record.get("payment_method", method_id)
        was, method["customer"] = method["customer"], None
        self._record.tell("payment_method.detached", method, customer=was)
        return method

    @_one_at_a_time
    def delete_customer(self, customer_id: str) -> None:
        """Deletes a customer."""
        self._customers.delete(customer_id)

    @_one_at_a_time
    def pay_invoice(
        self,
        customer_id: str,
        price_id: str,
        amount: int = 2_000,
        *,
        quantity: int = 1,
        currency: str = "usd",
        period: tuple[int, int] | None = None,
        subscription: str | None = None,
        metadata: Mapping[str, str] | None = None,
        billing_reason: str = "subscription_cycle",
        more: Sequence[InvoiceLine] = (),
    ) -> StripeObject:
        """A subscription's invoice is made, charged and paid.

        Args:
            customer_id: whose.
            price_id: the price of its line.
            amount: of the line.
            quantity: of the line.
            currency: of the invoice.
            period: from when to when the line counts; a month from now where it is not given.
            subscription: its id; a new one where it is not given.
            metadata: the subscription's.
            billing_reason: `subscription_create`, `subscription_cycle` or `subscription_update`.
            more: further lines.

        """
        return self._invoices.pay(
            self._customers.named(customer_id),
            [InvoiceLine(price=price_id, amount=amount, quantity=quantity), *more],
            currency=currency,
            period=period,
            subscription=subscription,
            metadata=metadata or {},
            billing_reason=billing_reason,
        )

    def _after(self, do: Callable[[StripeObject], None], kind: str, id: str) -> StripeObject:
        found = self._record.get(kind, id)
        do(found)
        return found

    def _charge(self, id: str) -> StripeObject:
        """The charge behind an object, by way of what it names."""
        found = self._record.any(id)
        if found is not None and found["object"] == "invoice":
            [payment] = self._record.of("invoice_payment", invoice=id)[:1] or [{}]
            return self._charge(payment.get("payment", {}).get("payment_intent", ""))
        for name in ("latest_charge", "charge", "payment_intent"):
            if found is not None and found["object"] != "charge" and found.get(name):
                return self._charge(found[name])
        if found is None or found["object"] != "charge":
            raise StripeRefusal(400, None, f"{id} has no charge.")
        return found


def _card(number: str) -> Card:
    card = CARDS.get(re.sub(r"\s", "", number))
    if card is None:
        said = "The sandbox takes its own test cards only, never a real one."
        raise StripeRefusal(402, "incorrect_number", said)
    return card
