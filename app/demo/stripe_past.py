"""What was paid before the sandbox began: made again, at its time, of what the ledger knows, and told to nobody."""

from app.demo.stripe_cards import CARDS, GOOD_CARD
from app.demo.stripe_customers import Customers
from app.demo.stripe_invoices import InvoiceLine, Invoices
from app.demo.stripe_objects import StripeObject, new_id
from app.demo.stripe_parameters import Form
from app.demo.stripe_payments import Payments
from app.demo.stripe_record import Record
from app.demo.stripe_sessions import Sessions
from app.payments.gateway import known_by
from app.store.checkouts import Bought, Checkout


class Past:
    """Makes payments of purchases: each was paid with the good card, and its money went back as far as it did."""

    def __init__(
        self, record: Record, payments: Payments, customers: Customers, invoices: Invoices, sessions: Sessions
    ) -> None:
        self._record = record
        self._payments = payments
        self._customers = customers
        self._invoices = invoices
        self._sessions = sessions

    def learn(self, bought: Bought, email: str) -> None:
        """The payment of a purchase that took money, and what belongs to it, unless it is known."""
        checkout = bought.checkout
        assert checkout.payment_intent is not None
        assert checkout.amount_paid is not None
        if self._record.find("payment_intent", checkout.payment_intent) is not None:
            return
        with self._record.quiet(checkout.created_at // 1000):
            buyer = self._buyer(checkout, email)
            if checkout.kind == "subscription":
                self._pay_invoice(checkout, buyer or self._customers.add(email=email, name=checkout.customer_id))
            else:
                self._pay(checkout, buyer["id"] if buyer else None, email)
        with self._record.quiet():  # when it was is not known, and a dispute is to be answered within days
            self._move_money(bought, checkout.payment_intent)

    def _buyer(self, checkout: Checkout, email: str) -> StripeObject | None:
        """The customer at Stripe that the ledger names; whoever bought without one stays nobody."""
        id = checkout.stripe_customer
        return self._record.find("customer", id) or self._customers.add(id=id, email=email) if id else None

    def _pay(self, checkout: Checkout, buyer: str | None, email: str) -> None:
        intent = self._payments.intent(
            checkout.amount_paid or 0,
            checkout.currency,
            id=checkout.payment_intent,
            customer=buyer,
            description=checkout.description if checkout.kind == "auto_top_up" else None,
            metadata=known_by(checkout),
        )
        if checkout.kind == "auto_top_up":
            self._payments.attempt(intent, self._payments.method(CARDS[GOOD_CARD], email, None), None)
            return
        # What was charged beyond the price was tax, and what was not charged of it a promotion's.
        more = intent["amount"] - checkout.amount
        session = self._sessions.create(_form(checkout, buyer, more), checkout.session_id or "")
        self._sessions.price(session, max(0, -more), max(0, more))
        session["payment_intent"] = intent["id"]
        self._sessions.pay(session, CARDS[GOOD_CARD], email)

    def _pay_invoice(self, checkout: Checkout, buyer: StripeObject) -> None:
        amount = checkout.amount_paid or 0
        self._invoices.pay(
            buyer,
            [InvoiceLine(price=new_id("price"), amount=amount)],  # which one it was over, the ledger does not keep
            currency=checkout.currency,
            period=None,
            subscription=None,
            metadata={"chargly_customer": checkout.customer_id},
            billing_reason="subscription_cycle",
            invoice_id=checkout.id.removeprefix("co_"),
            intent_id=checkout.payment_intent,
        )

    def _move_money(self, bought: Bought, intent_id: str) -> None:
        """Refunds, and then a dispute, which lets nothing more be refunded."""
        [charge] = self._record.of("charge", payment_intent=intent_id)
        checkout = bought.checkout
        left = min(checkout.amount_refunded, charge["amount"])
        # One that was asked for here is known by its request, so that the same request sent again refunds nothing more.
        for request, amount in bought.refunds:
            if amount <= left:
                left -= amount
                metadata = {"chargly_checkout": checkout.id, "chargly_refund": request}
                self._payments.refund(charge, amount, metadata=metadata)
        if left:
            self._payments.refund(charge, left)
        if checkout.amount_disputed:
            self._payments.dispute(charge, checkout.amount_disputed, currency=None, inquiry=False, reason="fraudulent")


def _form(checkout: Checkout, buyer: str | None, more: int) -> Form:
    """What the ledger had asked for when the session was opened, as far as it is kept."""
    price = {
        "currency": checkout.currency,
        "unit_amount": str(checkout.amount),
        "product_data": {"name": checkout.description},
    }
    form: Form = {
        "mode": "payment",
        "client_reference_id": checkout.id,
        "line_items": {"0": {"quantity": "1", "price_data": price}},
        "metadata": known_by(checkout),
    }
    if buyer is not None:
        form |= {"customer": buyer, "customer_update": {"address": "auto"}}
    if more < 0:
        form["allow_promotion_codes"] = "true"
    elif more > 0:
        form["automatic_tax"] = {"enabled": "true"}
    return form
